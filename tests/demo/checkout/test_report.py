from collections.abc import Mapping

import pytest

from retrysafe.demo.checkout.books import Effect, Page
from retrysafe.demo.checkout.orders import Basket
from retrysafe.demo.checkout.report import CheckoutReport, disagreements
from retrysafe.demo.checkout.town import Pages
from retrysafe.demo.checkout.words import checkout_introduction, checkout_table, checkout_verdict
from retrysafe.demo.client import Tally, Told, Word
from retrysafe.demo.settings import DemoSettings
from retrysafe.protocol.states import State

_BASKETS = [Basket("1", 1200, 2), Basket("2", 500, 1)]
_PAID = Told(Word.PAID, 201, "ch", replayed=False, at=0.0)
_REFUSED = Told(Word.REFUSED, 402, None, replayed=False, at=0.0)


def _page(amounts: Mapping[str, int], *undone: str) -> Page:
    effects = {f"k{order}": Effect(order, amount, order in undone) for order, amount in amounts.items()}
    balance = sum(effect.amount for effect in effects.values() if not effect.undone)
    return Page(effects, balance, calls=len(effects), undone=len(undone))


def _report(
    told: Mapping[str, Told] | None = None,
    states: Mapping[State, int] | None = None,
    *,
    charges: Page | None = None,
    parcels: Page | None = None,
) -> CheckoutReport:
    """Make the report of a run that went well: one order complete, one declined; or of one that did not."""
    pages = Pages(
        charges=charges or _page({"1": 1200}),
        holds=_page({"1": 2, "2": 1}, "2"),
        parcels=parcels or _page({"1": 2}),
    )
    return CheckoutReport(
        baskets=_BASKETS,
        tally=Tally({"1": _PAID, "2": _REFUSED} if told is None else dict(told)),
        pages=pages,
        states={State.DONE: 1, State.UNDONE: 1} if states is None else states,
        kills=3,
    )


def test_an_order_that_is_complete_and_one_that_is_undone_agree_with_the_books() -> None:
    """I6."""
    report = _report()
    assert disagreements(report) == []
    assert (report.money, report.stock, report.shipped) == ((1200, 1200), (2, 2), (2, 2))
    assert "1 complete, 1 fully undone, none in between" in checkout_verdict(report, [])


@pytest.mark.parametrize(
    ("report", "problem"),
    [
        (_report(charges=_page({"1": 1200, "2": 500})), "2 (told 402): charged, held and shipped are 500, 0, 0, not"),
        (_report(charges=_page({"1": 1200}, "1")), "money: 0 is not 1200"),
        (_report(charges=Page({"a": Effect("1", 1200), "b": Effect("1", 1200)}, 2400)), "are 1200+1200, 2, 2, not"),
        (_report(parcels=_page({"1": 1})), "parcels: 1 is not 2"),
        (_report({"1": _PAID}), "1 orders are stuck"),
        (_report(states={State.DONE: 1, State.PARKED: 1}), "1 orders are parked"),
        (_report(states={State.DONE: 1, State.UNDOING: 1}), "but 1 checkpoints are done or undone"),
        (_report(states={State.UNDONE: 2}), "1 orders are complete, but 0 checkpoints are done"),
        (_report({"1": _PAID, "2": Told(Word.REFUSED, 400, None, replayed=False, at=0.0)}), "2 was refused with 400"),
    ],
)
def test_whatever_disagrees_is_named(report: CheckoutReport, problem: str) -> None:
    assert any(problem in line for line in disagreements(report))
    assert problem in checkout_verdict(report, disagreements(report))


def test_the_table_compares_and_marks_what_is_alarming() -> None:
    good, bad = checkout_table(_report()), checkout_table(_report({"1": _PAID}, charges=_page({"1": 1200, "2": 500})))
    assert "12.00 = 12.00\n" in good
    assert "!" not in good
    assert "17.00 ≠ 12.00!" in bad
    assert [line.split()[-1] for line in bad.splitlines() if line.startswith("stuck")] == ["1!"]


def test_many_problems_are_not_all_shown() -> None:
    assert "… and 4 more" in checkout_verdict(_report(), [f"problem {number}" for number in range(12)])


def test_the_introduction_fits_a_terminal() -> None:
    text = checkout_introduction(DemoSettings(), 7)
    assert max(map(len, text.splitlines())) <= 105
    assert "The seed is 7" in text
