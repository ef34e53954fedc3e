"""The crash table, measured: ``python -m tests.crash.table`` kills real processes and writes the page.

Each cell is measured twice: once the dead attempt is found by the scan of another process, once by the retrying
client. Both must come to the same.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Literal

import psycopg

from retrysafe.protocol.states import FINAL, State
from tests.crash.processes import ROOT, Server, Town, expect_death, until
from tests.crash.settings import Fault
from tests.servers.wire import Reply
from tests.services import servers
from tests.services.mariadb import MariaDatabases
from tests.services.service import Service

PAGE = ROOT / "docs" / "reference" / "crash-table.md"
_AT_ONCE = 6

Finder = Literal["the scan", "the retrying client"]
FINDERS: tuple[Finder, ...] = ("the scan", "the retrying client")


@dataclass(frozen=True)
class Way:
    """How the operation has its effect.

    Attributes:
        mode: of the operation.
        step: in mode ``steps``, what kind of step has it.
        title: for the page.
    """

    mode: str
    step: str
    title: str

    @property
    def name(self) -> str:
        """For the tests."""
        return f"{self.mode}-{self.step}" if self.step else self.mode

    @property
    def is_local(self) -> bool:
        """Whether the effect is in the store's own database."""
        return self.mode == "transaction" or self.step == "local"


WAYS = (
    Way("once", "", "`once`"),
    Way("again", "", "`again`"),
    Way("steps", "retry", "`steps`, the service honours keys"),
    Way("steps", "probe", "`steps`, probed"),
    Way("steps", "park", "`steps`, nobody can tell"),
    Way("steps", "local", "`steps`, local"),
    Way("transaction", "", "`transaction`"),
)


@dataclass(frozen=True)
class Moment:
    """When a process dies, or is frozen.

    Attributes:
        name: for the tests.
        title: for the page.
        path: what is asked for.
        fault: where the process is killed; None where the operation does it, or where it is frozen.
        dies_at_event: the event at which the process is killed.
        freezes: whether it is frozen for longer than its lease instead.
    """

    name: str
    title: str
    path: str = "/charges"
    fault: Fault | None = None
    dies_at_event: str = ""
    freezes: bool = False


MOMENTS = (
    Moment("claimed", "after the claim, before any effect", fault=("claim", "after", 1)),
    Moment("effect", "effect done, not recorded", path="/dies"),
    Moment("streaming", "in the middle of a streamed answer", path="/stream"),
    Moment("recorded", "outcome recorded, answer lost", dies_at_event="Recorded"),
    Moment("frozen", "frozen, taken over, and awake again", path="/held", freezes=True),
)

Cell = tuple[str, Way, Moment, Finder]
"""A kind of store, how the effect happens, when the process dies, and who finds it."""
STORES = ("SQLite", "PostgreSQL", "MariaDB")


def cells(stores: Sequence[str] = STORES) -> list[Cell]:
    """Every cell that is measured.

    A process that is frozen inside a write transaction of SQLite stops every writer of the file, which is a stated
    window (R11), so that nothing can be measured there. On MariaDB those are measured whose statements differ, each
    found by the scan: what has its effect outside of the database asks of it what it asks of PostgreSQL.
    """
    return [
        cell
        for cell in product(stores, WAYS, MOMENTS, FINDERS)
        if not (cell[0] == "SQLite" and cell[1].is_local and cell[2].freezes)
        and not (cell[0] == "MariaDB" and (cell[1].step in {"probe", "park"} or cell[3] != "the scan"))
    ]


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
        kept = "replay" if self.later.replayed else "done"
        return f"{self.effects}, {kept}" if self.attempts == 1 else str(self.effects)


def measure(cell: Cell, directory: Path, store_url: str = "") -> Seen:
    """Kill or freeze a process, have the operation recovered, and look at what is left."""
    _, way, moment, finder = cell
    with Town(directory, mode=way.mode, step=way.step, store=store_url) as town:
        second = town.scanning() if finder == "the scan" else town.start()
        doomed = town.start(faults=(moment.fault,) if moment.fault else (), dies_at_event=moment.dies_at_event)
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
            effects=town.effects,
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
        until(lambda: town.ledger or (town.directory / "waiting").exists(), "the effect")
        doomed.send(SIGSTOP)
        until(lambda: town.checkpoint.lease_remaining_seconds <= 0 or town.checkpoint.attempt > 1, "the lease is over")
        second.post_until_settled(moment.path)
        town.open_gate()
        doomed.send(SIGCONT)
        return waiting.result()


def measure_all(stores: Sequence[str] = STORES) -> Mapping[Cell, Seen]:
    """Measure every cell, some at once: mostly they wait for a lease to end."""
    wanted = cells(stores)
    with (
        tempfile.TemporaryDirectory(prefix="crash-table-") as root,
        ThreadPoolExecutor(_AT_ONCE) as threads,
        ExitStack() as stack,
    ):
        directories = [Path(root) / str(number) for number in range(len(wanted))]
        service = stack.enter_context(servers.postgres()) if "PostgreSQL" in stores else None
        maria = stack.enter_context(servers.mariadb()) if "MariaDB" in stores else None
        taken = MariaDatabases(maria.url) if maria is not None else None
        urls = [
            _database(service, number)
            if cell[0] == "PostgreSQL"
            else taken.take()
            if cell[0] == "MariaDB" and taken is not None
            else ""
            for number, cell in enumerate(wanted)
        ]
        return dict(zip(wanted, threads.map(measure, wanted, directories, urls), strict=True))


def _database(service: Service | None, number: int) -> str:
    """Make an empty database."""
    assert service is not None
    with psycopg.connect(service.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE crash_{number}".encode())
    return service.url.removesuffix("/postgres") + f"/crash_{number}"


def page(table: Mapping[Cell, Seen]) -> str:
    """Write the page.

    Raises:
        ValueError: the scan and the client did not come to the same.
    """
    titles = [way.title for way in WAYS]
    head = f"| The process dies… | {' | '.join(titles)} |\n| --- |{' --- |' * len(titles)}"
    tables = {store: "\n".join([head, *_rows(table, store)]) for store in STORES}
    return _PAGE.format(sqlite=tables["SQLite"], postgres=tables["PostgreSQL"], mariadb=tables["MariaDB"])


def _rows(table: Mapping[Cell, Seen], store: str) -> Iterator[str]:
    for moment in MOMENTS:
        texts = [_text(table, store, way, moment) for way in WAYS]
        yield f"| {moment.title} | {' | '.join(texts)} |"


def _text(table: Mapping[Cell, Seen], store: str, way: Way, moment: Moment) -> str:
    texts = {table[cell].text for finder in FINDERS if (cell := (store, way, moment, finder)) in table}
    if not texts:
        return "(a window)" if store == "SQLite" else "–"
    if len(texts) > 1:
        raise ValueError(f"{store}, {way.name}, {moment.title}: scan and client differ: {sorted(texts)}")
    (text,) = texts
    return f"**{text}**" if text.startswith("2") else text


_PAGE = """\
# The crash table

What is left when a process dies, measured: every cell is a real server that was killed with `SIGKILL` (or frozen with
`SIGSTOP` past its lease) at exactly that moment, and an operation that was then found twice: once by the scan of
another process, once by the retrying client. Both came to what the cell says. The number is how often the effect
happened, all in all.

## On SQLite

{sqlite}

## On PostgreSQL

{postgres}

## On MariaDB

{mariadb}

- **parked**: the outcome is unknown, and the client is told so (409 `outcome-unknown`) instead of being served a second
  effect. A person [settles it](../how-to/settle-parked-operations.md).
- **replay**: the outcome was recorded before the crash; every retry gets it.
- A number alone: the operation was run again and has its outcome. Where it is **2**, the effect of the dead attempt had
  happened and nobody could know: that is what declaring an operation `again` says is harmless.
- *steps* depends on what is known of the service that the step calls: whether it honours keys, whether it can be asked
  (`Probe`), or neither. A *local* step and mode `transaction` have their effect in the store's own database.
- *(a window)*: a process that is frozen inside a write transaction of SQLite stops every writer of the file until it
  wakes or dies. PostgreSQL and MariaDB end such a session by themselves.
- *–*: not measured on MariaDB, where each cell is found by the scan alone: what these steps ask of the database is the
  same as beside them.
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
