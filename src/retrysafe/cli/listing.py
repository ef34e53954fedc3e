"""A page of operations as a table, and the table again and again."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from retrysafe.cli.complaints import Complaint
from retrysafe.cli.operations import ABANDONED, due_words, is_abandoned, state_word
from retrysafe.cli.terminal import console, say
from retrysafe.cli.words import duration, printable, shortest_ids
from retrysafe.protocol.model import Checkpoint
from retrysafe.protocol.states import LEASED, State

STYLES = {
    ABANDONED: "bold red",
    State.RUNNING: "cyan",
    State.STREAMING: "cyan",
    State.UNDOING: "magenta",
    State.PARKED: "bold yellow",
    State.DONE: "green",
    State.UNDONE: "magenta",
    State.RELEASED: "dim",
    State.EXPIRED: "dim",
}
_WAITING = "yellow"
"""Abandoned, and not due yet: nothing is wrong."""
_RIGHT = {"attempt", "age", "lease"}
_SHORTENED = {"name", "principal", "reason"}
_SHORTEST = 16
_SPARED = ("key", "mode", "attempt", "principal", "reason", "lease")
"""What is left out first where there is no room for all."""
_GAP = 2


def table(page: Sequence[Checkpoint], width: int) -> RenderableType:
    """Draw a page, one line for each operation.

    A column that would be empty is left out; so are those that find no room, and a line below names them.

    Args:
        page: at least one operation.
        width: of the terminal.
    """
    length = shortest_ids(seen.operation_id for seen in page)
    rows = [_row(seen, length) for seen in page]
    natural = {name: max(len(row[name]) for row in rows) for name in rows[0]}
    natural = {name: max(len(name), number) for name, number in natural.items() if number}
    widths = _fitted(natural, width)
    drawn = Table(box=None, pad_edge=False, header_style="dim", padding=(0, _GAP, 0, 0))
    for name, number in widths.items():
        drawn.add_column(name, justify="right" if name in _RIGHT else "left", no_wrap=True, width=number)
    for row in rows:
        drawn.add_row(*(row[name] for name in widths))
    hidden = ", ".join(name for name in natural if name not in widths)
    return Group(drawn, Text(f"no room for {hidden}: ops show and --json have all", "dim")) if hidden else drawn


def _fitted(natural: Mapping[str, int], width: int) -> dict[str, int]:
    """Choose the columns that fit, and how wide each becomes; rich would cut off the last ones instead."""
    widths = {name: min(number, _SHORTEST) if name in _SHORTENED else number for name, number in natural.items()}
    spared = iter(_SPARED)
    while (room := width - sum(widths.values()) - _GAP * (len(widths) - 1)) < 0 and (name := next(spared, None)):
        widths.pop(name, None)
    for name, least in widths.items():
        more = min(natural[name] - least, max(room, 0))
        widths[name] = least + more
        room -= more
    return widths


def show(page: Sequence[Checkpoint], nothing: str, more: str | None) -> None:
    """Print a page, or say why it is empty, or how to go on behind it."""
    out = console()
    _print(out, table(page, out.width) if page else Text(nothing))
    if more is not None:
        say(click.style(more, dim=True))


def watch(read: Callable[[], Sequence[Checkpoint]], nothing: str, seconds: float) -> None:
    """Draw the page again and again, until Ctrl-C. A store that is away for a while is waited for."""
    out = console()
    look = partial(_looked, read, nothing, out)
    if not sys.stdout.isatty():
        _repeat(lambda: _print(out, look()), seconds)
        return
    with Live(console=out, auto_refresh=False) as live:
        _repeat(lambda: live.update(Group(look(), _footer(seconds)), refresh=True), seconds)


def _print(out: Console, drawing: RenderableType) -> None:
    """Print to a terminal as it is, into a pipe without the blanks that fill up the last column."""
    if sys.stdout.isatty():
        out.print(drawing)
        return
    with out.capture() as captured:
        out.print(drawing)
    say("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _repeat(act: Callable[[], None], seconds: float) -> None:
    try:
        while True:
            act()
            time.sleep(seconds)
    except KeyboardInterrupt:
        return


def _looked(read: Callable[[], Sequence[Checkpoint]], nothing: str, out: Console) -> RenderableType:
    try:
        page = read()
    except Complaint as complaint:
        return Text.from_ansi(complaint.text())
    return table(page, out.width) if page else Text(nothing)


def _footer(seconds: float) -> Text:
    return Text(f"\nevery {duration(seconds)}, Ctrl-C ends", "dim")


def _row(seen: Checkpoint, length: int) -> dict[str, Text]:
    word = state_word(seen)
    return {
        "operation": Text(seen.operation_id[:length]),
        "state": Text(word, _WAITING if word == ABANDONED and seen.due_at > seen.now else STYLES[word]),
        "name": Text(printable(seen.name)),
        "mode": Text(seen.mode.value),
        "attempt": Text(str(seen.attempt) if seen.attempt > 1 else ""),
        "age": Text(duration(seen.age_seconds)),
        "lease": Text(_lease(seen)),
        "next": Text(due_words(seen)),
        "key": Text(printable(seen.key_hint)),
        "principal": Text(printable(seen.principal)),
        "reason": Text(printable(seen.reason or "")),
    }


def _lease(seen: Checkpoint) -> str:
    if seen.state not in LEASED:
        return ""
    left = duration(seen.lease_remaining_seconds)
    return f"over {left}" if is_abandoned(seen) else left
