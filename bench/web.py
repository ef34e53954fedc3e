"""Whole servers over loopback: what a guard costs an application, as ratios within one round.

Every variant is a server process of its own with one worker, and all of them are up the whole time; one load generator,
a process too, visits one after another. A round visits the unguarded application first and last, and the guarded ones
between them, so that whatever else the machine does meanwhile slows all of them. What counts is the median over rounds
of the ratio within the round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.children import Child, ChildFailed
from bench.plan import APPS, CONNECTIONS, GUARDS, Plan

_PATIENCE_SECONDS = 20.0
_UNGUARDED = "none"


class Slice(NamedTuple):
    """What one visit measured."""

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


@dataclass(slots=True)
class Row:
    """One line of the table, with what each round measured.

    Attributes:
        app: ``bare`` or ``fastapi``.
        connections: how many at once.
        guard: ``none``, ``memory`` or ``sqlite``.
        kind: ``fresh`` or ``replay``.
        slices: one for each round; the unguarded application has two.
        ratios: its rate by the unguarded one's of the same round.
        cpu_ratios: the unguarded one's server CPU per request by its own.
    """

    app: str
    connections: int
    guard: str
    kind: str
    slices: list[Slice] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    cpu_ratios: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return medians as plain data."""
        return {
            "app": self.app,
            "connections": self.connections,
            "guard": self.guard,
            "kind": self.kind,
            "rounds": len(self.ratios),
            "requests_per_second": median(piece.rate for piece in self.slices),
            "ratio": median(self.ratios),
            "ratio_low": min(self.ratios),
            "ratio_high": max(self.ratios),
            "cpu_ratio": median(self.cpu_ratios),
            "p50_ms": median(piece.p50_ms for piece in self.slices),
            "p99_ms": median(piece.p99_ms for piece in self.slices),
            "cpu_us": median(piece.cpu_us for piece in self.slices),
        }


@dataclass(slots=True)
class Checks:
    """Whether what was timed was also right.

    Attributes:
        keys: how many keys were answered for the first time, on guarded and unguarded servers.
        effects: how many effects the applications counted.
        replays: how many replays were answered.
        problems: what was wrong, in words.
    """

    keys: int = 0
    effects: int = 0
    replays: int = 0
    problems: list[str] = field(default_factory=list)


class Visitor:
    """Sends load to servers and checks what they did."""

    def __init__(self, load: Child, servers: dict[tuple[str, str], Child], plan: Plan, checks: Checks) -> None:
        self._load = load
        self._servers = servers
        self._plan = plan
        self._checks = checks
        self._visits = 0

    def fresh(self, app: str, guard: str, connections: int) -> Slice:
        """Send requests with new keys; each must have had one effect."""
        self._visits += 1
        return self._visit(app, guard, connections, replay=False)

    def replay(self, app: str, guard: str, connections: int) -> Slice:
        """Send the keys of the last visit again; none may have another effect."""
        return self._visit(app, guard, connections, replay=True)

    def _visit(self, app: str, guard: str, connections: int, *, replay: bool) -> Slice:
        server = self._servers[app, guard]
        before = server.ask({})
        command = {
            "port": server.hello["port"],
            "connections": connections,
            "seconds": self._plan.web_seconds,
            "most": self._plan.most,
            "label": f"visit-{self._visits:06d}",
            "replay": replay,
        }
        heard = self._load.ask(command, seconds=self._plan.web_seconds + _PATIENCE_SECONDS)
        after = server.ask({})
        effects = after["effects"] - before["effects"]
        self._check(f"{app}, {guard}, {connections} connections", heard, effects, replay=replay)
        requests = heard["requests"]
        if not requests:
            raise ChildFailed(f"nothing was answered by {app}, {guard}: {heard['errors']}")
        cpu_us = 1e6 * (after["cpu_seconds"] - before["cpu_seconds"]) / requests
        return Slice(requests / heard["seconds"], heard["p50_ms"], heard["p99_ms"], cpu_us)

    def _check(self, where: str, heard: dict[str, Any], effects: int, *, replay: bool) -> None:
        checks = self._checks
        keys = 0 if replay else heard["keys"]
        checks.keys += keys
        checks.effects += effects
        checks.replays += heard["requests"] if replay else 0
        if effects != keys:
            checks.problems.append(f"{where}: {effects} effects for {keys} keys")
        checks.problems.extend(f"{where}: {times} times {why}" for why, times in heard["errors"].items())


def measure(plan: Plan, directory: Path, deadline: float, tell: Callable[[str], None]) -> tuple[list[Row], Checks]:
    """Run rounds until there were enough, or until the next one would probably end after ``deadline``.

    Args:
        plan: how many, how long.
        directory: where the SQLite file lies; its file system's speed is part of what is measured.
        deadline: monotonic instant.
        tell: takes a line about what goes on.
    """
    checks = Checks()
    with ExitStack() as children:
        load = children.enter_context(Child("bench.load"))
        servers = {
            (app, guard): children.enter_context(Child("bench.server", app, _url(app, guard, directory)))
            for app in APPS
            for guard in (_UNGUARDED, *GUARDS)
        }
        for child in (load, *servers.values()):
            child.wait_until_ready()
        visitor = Visitor(load, servers, plan, checks)
        for app, guard in servers:
            visitor.fresh(app, guard, CONNECTIONS[0])
        rows = {key: Row(*key) for key in _keys()}
        longest = 0.0
        for number in range(plan.web_rounds):
            started_at = time.monotonic()
            if number and started_at + longest > deadline:
                tell(f"http: stopped after {number} of {plan.web_rounds} rounds, the time is over")
                break
            tell(f"http: round {number + 1} of {plan.web_rounds}")
            for app in APPS:
                for connections in CONNECTIONS:
                    _round(visitor, rows, app, connections, _order(number))
            longest = max(longest, time.monotonic() - started_at)
    return list(rows.values()), checks


def _round(
    visitor: Visitor,
    rows: dict[tuple[str, int, str, str], Row],
    app: str,
    connections: int,
    guards: Sequence[str],
) -> None:
    """Visit one application without a guard, with each, and without again."""
    unguarded = [visitor.fresh(app, _UNGUARDED, connections)]
    seen: dict[tuple[str, str], Slice] = {}
    for guard in guards:
        seen[guard, "fresh"] = visitor.fresh(app, guard, connections)
        seen[guard, "replay"] = visitor.replay(app, guard, connections)
    unguarded.append(visitor.fresh(app, _UNGUARDED, connections))
    base = sum(piece.rate for piece in unguarded) / 2
    base_cpu = sum(piece.cpu_us for piece in unguarded) / 2
    plain = rows[app, connections, _UNGUARDED, "fresh"]
    plain.slices.extend(unguarded)
    plain.ratios.append(1.0)
    plain.cpu_ratios.append(1.0)
    for (guard, kind), piece in seen.items():
        row = rows[app, connections, guard, kind]
        row.slices.append(piece)
        row.ratios.append(piece.rate / base)
        row.cpu_ratios.append(base_cpu / piece.cpu_us if piece.cpu_us else 0.0)


def _keys() -> Iterator[tuple[str, int, str, str]]:
    for app in APPS:
        for connections in CONNECTIONS:
            yield app, connections, _UNGUARDED, "fresh"
            for guard in GUARDS:
                yield app, connections, guard, "fresh"
                yield app, connections, guard, "replay"


def _order(number: int) -> Sequence[str]:
    """Return the guards in another order each round, so that none profits from its neighbours."""
    turn = number % len(GUARDS)
    return GUARDS[turn:] + GUARDS[:turn]


def _url(app: str, guard: str, directory: Path) -> str:
    match guard:
        case "memory":
            return "memory://"
        case "sqlite":
            return f"sqlite:///{directory / app}.db?synchronous=full"
        case _:
            return ""
