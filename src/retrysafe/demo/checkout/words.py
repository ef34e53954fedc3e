"""What the demo says around its second act: what is about to happen, the figures, and what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrysafe.demo.checkout.report import CheckoutReport
    from retrysafe.demo.settings import DemoSettings

_COLUMN = 26
_SHOWN_PROBLEMS = 8


def checkout_introduction(settings: DemoSettings, seed: int) -> str:
    """Say what is about to happen."""
    facts = (
        "reserve    at the warehouse; its undo releases the stock",
        "charge     at the bank; its undo refunds; if its outcome is unknown, the bank is asked",
        "pivot      from here on only forward",
        "ship       until it is shipped",
    )
    head = (
        f"A checkout in steps: {settings.checkouts} orders, one shop with retrysafe, kill -9 at random moments, "
        f"{settings.checkout_kills} times."
    )
    lines = [
        head,
        "",
        *(f"  {fact}" for fact in facts),
        "",
        "  Both services fail before and after the effect, hang past the time-out, hang up in the middle of an",
        "  answer, land calls late, and decline orders. An order must end complete, or leave nothing behind.",
        f"  The seed is {seed}.",
        "",
    ]
    return "\n".join(lines)


def checkout_table(report: CheckoutReport) -> str:
    """Lay the figures out as text; an alarming one has a ``!`` behind it."""
    lines = [
        _line("orders", str(len(report.baskets))),
        _line("complete", str(len(report.complete))),
        _line("undone", str(len(report.undone))),
        _line("parked for a person", str(report.parked), alarming=report.parked > 0),
        _line("stuck", str(report.left_open), alarming=report.left_open > 0),
        _line("kill -9 survived", str(report.kills)),
        _line("requests sent", f"{report.tally.sent:,}"),
        _line("answers dropped", str(report.tally.dropped)),
        _line("calls to bank and warehouse", f"{report.calls:,}"),
        _line("repeats absorbed by child keys", str(report.repeated)),
        _line("effects undone", str(report.effects_undone)),
        _line("calls later than their undo", str(report.too_late)),
        _compared("money: charged = ordered", report.money, cents=True),
        _compared("stock: taken = ordered", report.stock),
        _compared("stock: shipped = ordered", report.shipped),
        _line("seconds", f"{report.seconds:.1f}"),
    ]
    head = _line("", "checkout")
    return "\n".join([head, "─" * len(head), *lines])


def checkout_verdict(report: CheckoutReport, problems: Sequence[str]) -> str:
    """Say whether every order is complete or fully undone."""
    if problems:
        more = [f"  … and {len(problems) - _SHOWN_PROBLEMS} more"] if len(problems) > _SHOWN_PROBLEMS else []
        shown = [f"  - {problem}" for problem in problems[:_SHOWN_PROBLEMS]]
        return "\n".join(["The checkout disagrees with its orders:", *shown, *more])
    return (
        f"Checkout: {len(report.baskets)} orders, {len(report.complete)} complete, {len(report.undone)} fully undone, "
        "none in between. Money and stock agree."
    )


def _compared(label: str, pair: tuple[int, int], *, cents: bool = False) -> str:
    found, due = (f"{value / 100:,.2f}" if cents else f"{value:,}" for value in pair)
    agree = pair[0] == pair[1]
    return _line(label, f"{found} {'=' if agree else '≠'} {due}", alarming=not agree)


def _line(label: str, cell: str, *, alarming: bool = False) -> str:
    return f"{label:<30}  {cell.rjust(_COLUMN)}{'!' if alarming else ''}"
