"""The final table: what is counted for each lane, and how it looks as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from retrysafe.demo.lanes import Lane
from retrysafe.demo.report import LaneReport

_COLUMN = 16


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        label: what is counted.
        cells: one for each lane, in order.
        alarming: for each cell, whether money moved wrongly or an order has no end.
    """

    label: str
    cells: Sequence[str]
    alarming: Sequence[bool]


@dataclass(frozen=True, slots=True)
class _Figure:
    label: str
    of: Callable[[LaneReport], int]
    alarming: bool = False
    retrysafe_only: bool = False
    """The other lanes have no notion of it, which is not the same as zero."""


_FIGURES: Sequence[_Figure] = (
    _Figure("orders", lambda report: report.orders),
    _Figure("charges at the bank", lambda report: report.charges),
    _Figure("orders charged twice or more", lambda report: report.charged_twice, alarming=True),
    _Figure("orders never charged", lambda report: report.never_charged),
    _Figure("repeats the bank recognised", lambda report: report.recognised),
    _Figure("kill -9 survived", lambda report: len(report.kills)),
    _Figure("answers dropped", lambda report: report.tally.dropped),
    _Figure("requests sent", lambda report: report.tally.sent),
    _Figure("replays", lambda report: report.tally.replays),
    _Figure("taken over by the scan", lambda report: report.recovered, retrysafe_only=True),
    _Figure("parked for a person", lambda report: report.parked, retrysafe_only=True),
    _Figure("stuck", lambda report: report.open, alarming=True),
)


def rows(reports: Sequence[LaneReport]) -> list[Row]:
    """Count everything, lane by lane."""
    seconds = Row("seconds", [f"{report.seconds:.1f}" for report in reports], [False] * len(reports))
    return [*(_row(figure, reports) for figure in _FIGURES), seconds]


def _row(figure: _Figure, reports: Sequence[LaneReport]) -> Row:
    cells: list[str] = []
    alarming: list[bool] = []
    for report in reports:
        known = report.lane is Lane.RETRYSAFE or not figure.retrysafe_only
        cells.append(f"{figure.of(report):,}" if known else "–")
        alarming.append(known and figure.alarming and figure.of(report) > 0)
    return Row(figure.label, cells, alarming)


def plain_table(reports: Sequence[LaneReport]) -> str:
    """Lay the table out as text; an alarming number has a ``!`` behind it."""
    table = rows(reports)
    labels = max(len(row.label) for row in table)
    lines = [_line("", [f"{report.lane.caption} " for report in reports], labels)]
    lines.append("─" * len(lines[0]))
    for row in table:
        marked = [cell + ("!" if bad else " ") for cell, bad in zip(row.cells, row.alarming, strict=True)]
        lines.append(_line(row.label, marked, labels))
    return "\n".join(lines)


def _line(label: str, cells: Sequence[str], labels: int) -> str:
    return "  ".join([label.ljust(labels), *(cell.rjust(_COLUMN + 1) for cell in cells)]).rstrip()
