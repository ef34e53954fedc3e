"""What became of the orders of the second act, and whether orders, money and stock agree."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from retrysafe.demo.census import unfinished
from retrysafe.demo.checkout.moods import DECLINED_STATUS, SOLD_OUT_STATUS
from retrysafe.demo.client import Tally, Told, Word
from retrysafe.protocol.states import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from retrysafe.demo.checkout.books import Page
    from retrysafe.demo.checkout.orders import Basket
    from retrysafe.demo.checkout.town import Pages

_UNDONE_STATUS = 409

_REFUSALS = {DECLINED_STATUS, SOLD_OUT_STATUS, _UNDONE_STATUS}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutReport:
    """Everything that was seen of the second act, from the outside.

    Attributes:
        baskets: what was ordered.
        tally: what the customers met and were told.
        pages: the services' books at the end.
        states: how many checkpoints are in each state at the end.
        kills: how often the shop was killed.
        seconds: from the first order until nothing was open.
    """

    baskets: Sequence[Basket]
    tally: Tally
    pages: Pages
    states: Mapping[State, int] = field(default_factory=dict[State, int])
    kills: int = 0
    seconds: float = 0.0

    @property
    def complete(self) -> Sequence[Basket]:
        """The orders whose customers were given a receipt."""
        return self._told(Word.PAID)

    @property
    def undone(self) -> Sequence[Basket]:
        """The orders whose customers were refused, which must have left nothing behind."""
        return self._told(Word.REFUSED)

    @property
    def parked(self) -> int:
        """Checkpoints that a person must settle; the services can be asked again, so there is no need for any."""
        return self.states.get(State.PARKED, 0)

    @property
    def left_open(self) -> int:
        """Orders without an end: customers without a final answer, or checkpoints neither final nor parked."""
        return max(len(self.baskets) - len(self.tally.told), unfinished(self.states))

    @property
    def calls(self) -> int:
        """Calls that reached bank and warehouse."""
        return sum(page.calls for page in self._each)

    @property
    def repeated(self) -> int:
        """Calls that changed nothing, because the service knew their child key."""
        return sum(page.repeated for page in self._each)

    @property
    def effects_undone(self) -> int:
        """Charges refunded and reservations released."""
        return sum(page.undone for page in self._each)

    @property
    def too_late(self) -> int:
        """Calls that came after their own undo and had no effect."""
        return sum(page.too_late for page in self._each)

    @property
    def money(self) -> tuple[int, int]:
        """Cents that the bank took, and cents that the complete orders cost."""
        return self.pages.charges.balance, sum(basket.cents for basket in self.complete)

    @property
    def stock(self) -> tuple[int, int]:
        """Pieces that have left the shelves, and pieces of the complete orders."""
        return self.pages.holds.balance, sum(basket.pieces for basket in self.complete)

    @property
    def shipped(self) -> tuple[int, int]:
        """Pieces that were sent, and pieces of the complete orders."""
        return self.pages.parcels.balance, sum(basket.pieces for basket in self.complete)

    @property
    def _each(self) -> tuple[Page, Page, Page]:
        return self.pages.charges, self.pages.holds, self.pages.parcels

    def _told(self, word: Word) -> Sequence[Basket]:
        told = self.tally.told
        return [basket for basket in self.baskets if basket.order in told and told[basket.order].word is word]


def disagreements(report: CheckoutReport) -> list[str]:
    """List every order that is neither complete nor fully undone, and every sum that differs; empty if all agree."""
    return [*_orders(report), *_sums(report)]


def _orders(report: CheckoutReport) -> Iterator[str]:
    charges, holds, parcels = (_in_effect(page) for page in report._each)  # noqa: SLF001 - of this module
    for basket in report.baskets:
        told = report.tally.told.get(basket.order)
        if told is not None and told.word is Word.REFUSED and told.status not in _REFUSALS:
            yield f"{basket.order} was refused with {told.status}"
        found = charges[basket.order], holds[basket.order], parcels[basket.order]
        due = _due(basket, told)
        if found != due:
            yield (
                f"{basket.order} ({_word(told)}): charged, held and shipped are {_listed(found)}, not {_listed(due)}"
            )


def _due(basket: Basket, told: Told | None) -> tuple[list[int], list[int], list[int]]:
    if told is not None and told.word is Word.PAID:
        return [basket.cents], [basket.pieces], [basket.pieces]
    return [], [], []


def _in_effect(page: Page) -> defaultdict[str, list[int]]:
    """Collect the amounts in effect by order: more than one is an order that was served twice."""
    found = defaultdict[str, list[int]](list)
    for effect in page.effects.values():
        if not effect.undone:
            found[effect.order].append(effect.amount)
    return found


def _sums(report: CheckoutReport) -> Iterator[str]:
    for what, (found, due) in (("money", report.money), ("stock", report.stock), ("parcels", report.shipped)):
        if found != due:
            yield f"{what}: {found} is not {due}"
    final = report.states.get(State.DONE, 0) + report.states.get(State.UNDONE, 0)
    if final != len(report.baskets):
        yield f"{len(report.baskets)} orders, but {final} checkpoints are done or undone"
    if report.states.get(State.DONE, 0) < len(report.complete):
        yield f"{len(report.complete)} orders are complete, but {report.states.get(State.DONE, 0)} checkpoints are done"
    if report.parked:
        yield f"{report.parked} orders are parked, although every service could be asked again"
    if report.left_open:
        yield f"{report.left_open} orders are stuck"


def _word(told: Told | None) -> str:
    return "never answered" if told is None else f"told {told.status}"


def _listed(amounts: tuple[list[int], ...]) -> str:
    return ", ".join("+".join(map(str, amount)) or "0" for amount in amounts)
