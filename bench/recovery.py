"""How fast workers recover what was abandoned, and what it costs: many operations, four workers, one SQLite file."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from bench.children import ROOT
from bench.run import Run
from retrysafe.protocol.encoding import encode_request
from retrysafe.protocol.model import Ask, Mode, StoredRequest
from retrysafe.protocol.states import LEASED
from retrysafe.protocol.verdicts import Claimed
from retrysafe.runtime.clock import uuid7
from retrysafe.stores.base import Query
from retrysafe.stores.sqlite import SQLiteStore
from retrysafe.testing.asks import an_ask

WORKERS = 4
_LOOK_SECONDS = 0.05
_PATIENCE_SECONDS = 120.0
_AT_ONCE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What a run came to.

    Attributes:
        store: the kind.
        workers: how many processes.
        operations: how many were abandoned.
        twice: how many were claimed more than once, or had their effect more than once; there must be none.
        left: how many are still open; there must be none.
        per_second: operations recovered a second, all workers together, from the first to the last effect.
        cpu_us: processor time of all workers for each, start-up included, in microseconds.
    """

    store: str
    workers: int
    operations: int
    twice: int
    left: int
    per_second: float
    cpu_us: float


def measure(run: Run) -> list[dict[str, Any]]:
    """Abandon operations, start workers, and wait until nothing is open."""
    found = _recover(run)
    if found.twice or found.left:
        run.checks.problems.append(f"recovery: {found.twice} twice, {found.left} left open")
    return [asdict(found)]


def _recover(run: Run) -> Recovered:
    count = min(run.plan.recoveries, run.plan.most)
    run.tell(f"recovery: {count:,} abandoned operations, {WORKERS} workers")
    path, ledger = run.directory / "recovery.db", run.directory / "recovery.ledger"
    ledger.touch()
    store = SQLiteStore(path)
    store.open()
    _abandon(store, count)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    workers = [_start(path, ledger) for _ in range(WORKERS)]
    try:
        first_at, last_at = _await(store, ledger)
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(30)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    lines = ledger.read_text().split("\n")[:-1]
    left = len(store.query(partial(store.verbs.listing, Query(states=LEASED, limit=1000))))
    store.close()
    return Recovered(
        store="sqlite",
        workers=WORKERS,
        operations=count,
        # A second effect, or a claim after the one that recovered it.
        twice=len(lines) - len({line.split()[0] for line in lines}) + sum(line.split()[2] != "2" for line in lines),
        left=left,
        per_second=len(lines) / max(last_at - first_at, 1e-9),
        cpu_us=cpu / max(len(lines), 1) * 1e6,
    )


def _abandon(store: SQLiteStore, count: int) -> None:
    """Leave claims behind, as processes do that die right after them."""
    request = encode_request(StoredRequest("CALL", b"work", (), b"[]", "work"))
    for start in range(0, count, _AT_ONCE):
        claims = []
        for number in range(start, min(start + _AT_ONCE, count)):
            asked = _ask(number, request)
            verdict = store.run(partial(store.verbs.claim, asked))
            if isinstance(verdict, Claimed):
                claims.append(verdict.claim)
        store.run(partial(store.verbs.hand_over, claims))


def _ask(number: int, request: bytes) -> Ask:
    ask = an_ask(f"recovery-{number}", name="work", mode=Mode.STEPS, request=request, attempts=12)
    return replace(ask, attempt_id=uuid7(), identity=replace(ask.identity, namespace="default"))


def _start(path: Path, ledger: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"BENCH_STORE": f"sqlite:///{path}", "BENCH_LEDGER": str(ledger)}
    command = [
        sys.executable,
        "-m",
        "retrysafe",
        "worker",
        "bench.abandoned:guard",
        "--scan",
        "0.1",
        "--parallel",
        "32",
    ]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _await(store: SQLiteStore, ledger: Path) -> tuple[float, float]:
    """Return when the first effect was seen, and when nothing was open any more."""
    give_up_at = time.monotonic() + _PATIENCE_SECONDS
    first_at = 0.0
    while time.monotonic() < give_up_at:
        now = time.monotonic()
        if not first_at and ledger.stat().st_size:
            first_at = now
        if not store.query(partial(store.verbs.listing, Query(states=LEASED, limit=1))):
            return first_at or now, now
        time.sleep(_LOOK_SECONDS)
    return first_at, time.monotonic()
