"""Three counters racing, for a terminal; needs rich."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from retrysafe.demo.lanes import Lane
from retrysafe.demo.report import LaneReport
from retrysafe.demo.table import rows

_COLOURS = {Lane.NOTHING: "red", Lane.CACHE: "yellow", Lane.RETRYSAFE: "green"}
_ALARM = "bold white on red"
_REFRESHES_PER_SECOND = 8


class LiveDisplay:
    """Shows how far each lane is."""

    def __init__(self, out: TextIO) -> None:
        """Draw on a terminal."""
        self._console = Console(file=out)
        self._live = Live(console=self._console, refresh_per_second=_REFRESHES_PER_SECOND, transient=True)

    def start(self) -> None:
        """Begin to draw."""
        self._live.start()

    def stop(self) -> None:
        """Take the drawing away; the final table is printed in its place."""
        self._live.stop()

    def show(self, reports: Sequence[LaneReport]) -> None:
        """Draw the lanes as they are now."""
        # Eighty columns are enough, so that nothing wraps while it races.
        table = Table(box=None, pad_edge=False, collapse_padding=True)
        table.add_column("", no_wrap=True)
        table.add_column("answered")
        for head in ("", "charges", "charged twice", "dropped", "kill -9", "scan"):
            table.add_column(head, justify="right")
        for report in reports:
            table.add_row(*_counters(report))
        self._live.update(table)

    def print_table(self, reports: Sequence[LaneReport]) -> None:
        """Print the final table."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("")
        for report in reports:
            table.add_column(report.lane.caption, justify="right", header_style=f"bold {_COLOURS[report.lane]}")
        for row in rows(reports):
            cells = zip(row.cells, row.alarming, strict=True)
            table.add_row(row.label, *(Text(cell, style=_ALARM if bad else "") for cell, bad in cells))
        self._console.print(table)


def _counters(report: LaneReport) -> tuple[Text | ProgressBar | str, ...]:
    told, twice = len(report.tally.told), report.charged_twice
    return (
        Text(report.lane.caption, style=_COLOURS[report.lane]),
        ProgressBar(total=report.orders, completed=told, width=10),
        f"{told}/{report.orders}",
        str(report.charges),
        Text(str(twice), style=_ALARM if twice else "bold green"),
        str(report.tally.dropped),
        str(len(report.kills)),
        str(report.recovered) if report.lane is Lane.RETRYSAFE else "–",
    )
