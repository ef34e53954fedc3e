"""What a lane did, counted; and whether the retrysafe lane kept its promise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from retrysafe.demo.bank import Posting, charges_by_order
from retrysafe.demo.census import unfinished
from retrysafe.demo.client import Tally, Word, orders_told
from retrysafe.demo.journal import Note
from retrysafe.demo.lanes import Lane
from retrysafe.protocol.states import State


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneReport:
    """Everything that was seen of one lane, from the outside.

    Attributes:
        lane: which lane.
        orders: how many orders its customers placed.
        tally: what its customers met and were told.
        postings: what the bank did for it.
        kills: monotonic instants of each ``kill -9``.
        seconds: from the first order to the last answer.
        notes: the retrysafe lane's journal.
        states: how many checkpoints are in each state at the end; the retrysafe lane only.
    """

    lane: Lane
    orders: int
    tally: Tally
    postings: Sequence[Posting] = ()
    kills: Sequence[float] = ()
    seconds: float = 0.0
    notes: Sequence[Note] = ()
    states: Mapping[State, int] = field(default_factory=dict[State, int])

    @property
    def by_order(self) -> Counter[str]:
        """How often money moved for each order."""
        return charges_by_order(self.postings)

    @property
    def charges(self) -> int:
        """How often money moved."""
        return self.by_order.total()

    @property
    def charged_twice(self) -> int:
        """Orders charged more than once."""
        return sum(count > 1 for count in self.by_order.values())

    @property
    def never_charged(self) -> int:
        """Orders that were not charged at all."""
        return self.orders - len(self.by_order)

    @property
    def recognised(self) -> int:
        """Calls for which the bank moved no money, because it had seen their key."""
        return sum(posting.repeated for posting in self.postings)

    @property
    def recovered(self) -> int:
        """Attempts that the recovery scan began."""
        return sum(note.what == "Recovered" for note in self.notes)

    @property
    def parked(self) -> int:
        """Checkpoints that a person or a probe must settle."""
        return self.states.get(State.PARKED, 0)

    @property
    def open(self) -> int:
        """Orders without an end: customers without a final answer, or checkpoints neither final nor parked."""
        return max(self.orders - len(self.tally.told), unfinished(self.states))


def broken_promises(report: LaneReport, mode: str) -> list[str]:
    """List what the retrysafe lane did that it must not do; empty when it kept its promise.

    Args:
        report: of the retrysafe lane.
        mode: what it declared: ``again`` promises every order charged exactly once at a bank that honours keys,
            ``once`` at most once, and that whatever is not done is parked and told.
    """
    return [*_charged_wrongly(report), *_told_wrongly(report), *_kept_wrongly(report, mode)]


def _charged_wrongly(report: LaneReport) -> Iterator[str]:
    by_order = report.by_order
    for order, count in sorted(by_order.items()):
        if count > 1:
            yield f"{order} was charged {count} times"
    for order in orders_told(report.tally, Word.PAID):
        if not by_order[order]:
            yield f"{order} was told 201 and never charged"


def _told_wrongly(report: LaneReport) -> Iterator[str]:
    made = {(posting.order, posting.charge) for posting in report.postings}
    for order, told in report.tally.told.items():
        if told.word is Word.PAID and (order, told.charge) not in made:
            yield f"{order} was told of charge {told.charge}, which the bank did not make for it"
        if told.word is Word.REFUSED:
            yield f"{order} was refused with {told.status}"
    if report.open:
        yield f"{report.open} orders are stuck: neither done nor parked, or their customers never heard"


def _kept_wrongly(report: LaneReport, mode: str) -> Iterator[str]:
    paid, unknown = (len(orders_told(report.tally, word)) for word in (Word.PAID, Word.UNKNOWN))
    done = report.states.get(State.DONE, 0)
    if mode == "again" and report.parked:
        yield f"{report.parked} orders are parked, although mode again finishes what a crash left"
    if (done, report.parked) != (paid, unknown):
        yield (
            f"the checkpoints say {done} done and {report.parked} parked; "
            f"the customers were told {paid} paid and {unknown} unknown"
        )
