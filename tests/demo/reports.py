"""Lane reports made up for tests."""

from collections.abc import Mapping, Sequence

from retrysafe.demo.bank import Posting
from retrysafe.demo.client import Tally, Told, Word
from retrysafe.demo.journal import Note
from retrysafe.demo.lanes import Lane
from retrysafe.demo.report import LaneReport
from retrysafe.protocol.states import State


def posting(order: str, charge: str = "", *, repeated: bool = False, at: float = 0.0) -> Posting:
    return Posting("C", order, charge or f"ch_{order}", repeated, at)


def paid(order: str, charge: str = "", *, at: float = 0.0) -> Told:
    return Told(Word.PAID, 201, charge or f"ch_{order}", replayed=False, at=at)


UNKNOWN = Told(Word.UNKNOWN, 409, None, replayed=False, at=0.0)
REFUSED = Told(Word.REFUSED, 422, None, replayed=False, at=0.0)


def report(
    told: Mapping[str, Told],
    postings: Sequence[Posting],
    states: Mapping[State, int],
    *,
    lane: Lane = Lane.RETRYSAFE,
    orders: int | None = None,
    kills: Sequence[float] = (),
    notes: Sequence[Note] = (),
    dropped: int = 0,
) -> LaneReport:
    return LaneReport(
        lane=lane,
        orders=len(told) if orders is None else orders,
        tally=Tally(told=dict(told), sent=len(told), dropped=dropped),
        postings=postings,
        kills=kills,
        notes=notes,
        states=states,
        seconds=1.5,
    )
