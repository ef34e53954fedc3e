"""The crash table, measured: ``python -m tests.crash.table`` kills real processes and writes the page.

Each cell is measured twice: once the dead attempt is found by the scan of another process, once by the retrying
client. Both must come to the same.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Literal

from retrysafe.protocol.states import FINAL, State
from tests.crash.processes import ROOT, Server, Town, expect_death, until
from tests.crash.settings import Fault
from tests.servers.wire import Reply

PAGE = ROOT / "docs" / "reference" / "crash-table.md"
_AT_ONCE = 6

Mode = Literal["once", "again"]
Finder = Literal["the scan", "the retrying client"]
MODES: tuple[Mode, ...] = ("once", "again")
FINDERS: tuple[Finder, ...] = ("the scan", "the retrying client")


@dataclass(frozen=True)
class Moment:
    """When a process dies, or is frozen.

    Attributes:
        name: for the tests.
        title: for the page.
        path: what is asked for.
        fault: where the process is killed; None where the handler does it, or where it is frozen.
        freezes: whether it is frozen for longer than its lease instead.
    """

    name: str
    title: str
    path: str = "/charges"
    fault: Fault | None = None
    freezes: bool = False


MOMENTS = (
    Moment("claimed", "after the claim, before any effect", fault=("claim", "after", 1)),
    Moment("effect", "effect done, outcome not recorded", fault=("record", "before", 1)),
    Moment("streaming", "in the middle of a streamed answer", path="/stream"),
    Moment("recorded", "outcome recorded, answer lost", fault=("record", "after", 1)),
    Moment("frozen", "frozen, taken over, and awake again", path="/held", freezes=True),
)

Cell = tuple[Mode, Moment, Finder]


@dataclass(frozen=True)
class Seen:
    """What a cell came to.

    Attributes:
        effects: how often the effect happened, all in all.
        attempts: how many attempts there were.
        state: what the checkpoint says in the end.
        keeps_request: whether it still holds what a re-run needs.
        first: what the client heard of the attempt that was frozen; None of one that died.
        later: what it heard in the end, when it asked again.
        moment: when it was.
    """

    effects: int
    attempts: int
    state: State
    keeps_request: bool
    first: Reply | None
    later: Reply
    moment: Moment

    @property
    def text(self) -> str:
        """The cell as the page has it."""
        if self.moment.freezes:
            # Parked, or the truth from the late attempt itself: either is right, and which one is a race.
            return str(self.effects)
        if self.state is State.PARKED:
            return f"{self.effects}, parked"
        return f"{self.effects}, replay" if self.attempts == 1 else str(self.effects)


def measure(cell: Cell, directory: Path) -> Seen:
    """Kill or freeze a process, have the operation recovered, and look at what is left."""
    mode, moment, finder = cell
    with Town(directory, mode=mode) as town:
        second = town.scanning() if finder == "the scan" else town.start()
        doomed = town.start(faults=(moment.fault,) if moment.fault else ())
        if moment.freezes:
            first = _freeze(town, doomed, second, moment)
        else:
            first = None
            expect_death(doomed, moment.path)
        if finder == "the scan":
            town.await_state(*FINAL, State.PARKED)
        later = second.post_until_settled(moment.path)
        met = town.checkpoint
        return Seen(
            effects=len(town.ledger),
            attempts=met.attempt,
            state=met.state,
            keeps_request=met.request is not None,
            first=first,
            later=later,
            moment=moment,
        )


def _freeze(town: Town, doomed: Server, second: Server, moment: Moment) -> Reply:
    """Stop a process behind its effect until another one has taken over or parked, then wake it."""
    with ThreadPoolExecutor(1) as client:
        waiting = client.submit(doomed.post, moment.path)
        town.await_effects(1)
        doomed.send(SIGSTOP)
        until(lambda: town.checkpoint.lease_remaining_seconds <= 0 or town.checkpoint.attempt > 1, "the lease is over")
        second.post_until_settled(moment.path)
        town.open_gate()
        doomed.send(SIGCONT)
        return waiting.result()


def measure_all() -> Mapping[Cell, Seen]:
    """Measure every cell, some at once: mostly they wait for a lease to end."""
    cells: list[Cell] = list(product(MODES, MOMENTS, FINDERS))
    with tempfile.TemporaryDirectory(prefix="crash-table-") as root, ThreadPoolExecutor(_AT_ONCE) as threads:
        directories = [Path(root) / str(number) for number in range(len(cells))]
        return dict(zip(cells, threads.map(measure, cells, directories), strict=True))


def page(table: Mapping[Cell, Seen]) -> str:
    """Write the page.

    Raises:
        ValueError: the scan and the client did not come to the same.
    """
    return _PAGE.format(rows="\n".join(_rows(table)))


def _rows(table: Mapping[Cell, Seen]) -> Iterator[str]:
    for moment in MOMENTS:
        texts = [_text(table, mode, moment) for mode in MODES]
        yield f"| {moment.title} | {' | '.join(texts)} |"


def _text(table: Mapping[Cell, Seen], mode: Mode, moment: Moment) -> str:
    texts = {table[mode, moment, finder].text for finder in FINDERS}
    if len(texts) > 1:
        raise ValueError(f"{mode}, {moment.title}: the scan and the client differ: {sorted(texts)}")
    (text,) = texts
    return f"**{text}**" if text.startswith("2") else text


_PAGE = """\
# The crash table

What is left when a process dies, measured: every cell is a real server that was killed with `SIGKILL` (or frozen with
`SIGSTOP` past its lease) at exactly that moment, and an operation that was then found twice: once by the scan of
another process, once by the retrying client. Both came to what the cell says. The number is how often the effect
happened, all in all.

| The process dies… | `once` | `again` |
| --- | --- | --- |
{rows}

- **parked**: the outcome is unknown, and the client is told so (409 `outcome-unknown`) instead of being served a second
  effect. A person settles it; see [modes](../how-to/modes.md).
- **replay**: the outcome was recorded before the crash; every retry gets it.
- A number alone: the operation was run again and has its outcome. Where it is **2**, the effect of the dead attempt had
  happened and nobody could know: that is what declaring an operation `again` says is harmless.
- *Frozen*: what the process tries to write when it wakes is refused, and its client gets the other attempt's outcome,
  or 503 `attempt-superseded`. In mode `once` nobody else may have run it, so the late attempt itself may still record
  the truth of a parked operation.

This page is written by `python -m tests.crash.table`; a test kills the processes again and compares.
"""


def main() -> None:
    """Measure, print and write the page."""
    text = page(measure_all())
    PAGE.write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
