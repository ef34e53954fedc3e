"""Where the demo speaks: plain lines, or a live display where there is a terminal and rich to draw on it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self, TextIO

from retrysafe.demo.report import LaneReport
from retrysafe.demo.table import plain_table

if TYPE_CHECKING:
    from retrysafe.demo.live import LiveDisplay


class Screen:
    """Speaks to a person, or to a file."""

    def __init__(self, out: TextIO | None = None, *, lite: bool = False) -> None:
        """Choose how to speak.

        Args:
            out: where to; by default standard output.
            lite: plain text even on a terminal.
        """
        self._out: TextIO = sys.stdout if out is None else out
        self._display = None if lite or not self._out.isatty() else _display(self._out)

    def __enter__(self) -> Self:
        """Begin the live display, if there is one."""
        if self._display is not None:
            self._display.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the live display away."""
        if self._display is not None:
            self._display.stop()

    @property
    def is_live(self) -> bool:
        """Whether anybody sees progress."""
        return self._display is not None

    def say(self, text: str) -> None:
        """Print some lines."""
        self._out.write(f"{text}\n")
        self._out.flush()

    def show(self, reports: Sequence[LaneReport]) -> None:
        """Draw how far the lanes are, on a live display."""
        if self._display is not None:
            self._display.show(reports)

    def print_table(self, reports: Sequence[LaneReport]) -> None:
        """Print the final table."""
        if self._display is None:
            self.say(f"\n{plain_table(reports)}")
        else:
            self._display.print_table(reports)


def _display(out: TextIO) -> LiveDisplay | None:
    try:
        from retrysafe.demo.live import LiveDisplay  # noqa: PLC0415 - plain text needs no rich
    except ImportError:
        return None
    return LiveDisplay(out)
