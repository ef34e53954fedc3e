"""Sends load to server children, one visit at a time, and checks that what was timed was also right."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bench.children import Child, ChildFailed
from bench.plan import Plan

_PATIENCE_SECONDS = 40.0


class Slice(NamedTuple):
    """What one visit measured.

    Attributes:
        rate: answers a second.
        p50_ms: half of the answers took longer.
        p99_ms: one in a hundred took longer.
        cpu_us: processor time of the server for each.
        answers: how many.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    answers: float


@dataclass(slots=True)
class Checks:
    """Whether what was timed was also right.

    Attributes:
        keys: how many keys were answered for the first time, on guarded and unguarded servers.
        effects: how many effects the applications counted.
        replays: how many replays were answered.
        conflicts: how many requests met their key in flight.
        problems: what was wrong, in words.
    """

    keys: int = 0
    effects: int = 0
    replays: int = 0
    conflicts: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Server:
    """A server child.

    Attributes:
        app: which application it serves.
        name: the guard's.
        child: the process.
        faults: where the server is somebody else's, what it did wrong with which kind of requests, and how often: then
            it fails no run.
    """

    app: str
    name: str
    child: Child
    faults: dict[str, Counter[str]] | None = None


class Visitor:
    """Sends load to servers and checks what they did."""

    def __init__(self, load: Child, plan: Plan, checks: Checks) -> None:
        self._load = load
        self._plan = plan
        self._checks = checks
        self._visits = 0

    def fresh(self, server: Server, connections: int) -> Slice:
        """Send requests with new keys; each must have had one effect."""
        self._visits += 1
        return self._visit(server, "fresh", connections)

    def replay(self, server: Server, connections: int) -> Slice:
        """Send the keys of the last fresh visit again; none may have another effect."""
        return self._visit(server, "replay", connections)

    def conflict(self, server: Server, connections: int) -> Slice:
        """Hold one operation in flight, and send its key meanwhile; it must have one effect, and others none."""
        before = server.child.ask({})
        self._load.ask({**self._about(server), "kind": "hold"})
        server.child.ask({"do": "until held"}, seconds=_PATIENCE_SECONDS)
        piece = self._visit(server, "conflict", connections)
        server.child.ask({"do": "let go"})
        heard = self._load.ask({**self._about(server), "kind": "settle"}, seconds=_PATIENCE_SECONDS)
        after = server.child.ask({})
        self._check(server, "held", {**heard, "keys": 1}, after["effects"] - before["effects"])
        return piece

    def _about(self, server: Server) -> dict[str, Any]:
        return {"port": server.child.hello["port"], "label": f"visit-{self._visits:06d}"}

    def _visit(self, server: Server, kind: str, connections: int) -> Slice:
        before = server.child.ask({})
        command = {
            **self._about(server),
            "kind": kind,
            "connections": connections,
            "seconds": self._plan.web_seconds,
            "most": self._plan.most,
            "marked": server.faults is None,
        }
        heard = self._load.ask(command, seconds=self._plan.web_seconds + _PATIENCE_SECONDS)
        after = server.child.ask({})
        self._check(server, kind, heard, after["effects"] - before["effects"])
        requests = heard["requests"]
        if not requests:
            return self._nothing(server, kind)
        cpu_us = 1e6 * (after["cpu_seconds"] - before["cpu_seconds"]) / requests
        return Slice(requests / heard["seconds"], heard["p50_ms"], heard["p99_ms"], cpu_us, requests)

    def _nothing(self, server: Server, kind: str) -> Slice:
        """Go on without what somebody else's server does not answer."""
        if server.faults is None:
            raise ChildFailed(f"{server.app}, {server.name} answers nothing: {self._checks.problems}")
        self._note(server, kind, {"nothing answered": 1})
        return Slice(0.0, 0.0, 0.0, 0.0, 0)

    def _check(self, server: Server, kind: str, heard: dict[str, Any], effects: int) -> None:
        checks, errors = self._checks, dict(heard["errors"])
        keys = heard["keys"] if kind in {"fresh", "held"} else 0
        if effects != keys:
            errors["effects too many or too few"] = abs(effects - keys)
        self._note(server, kind, errors)
        if server.faults is None:
            checks.keys += keys
            checks.effects += effects
            checks.replays += heard["requests"] if kind == "replay" else 0
            checks.conflicts += heard["requests"] if kind == "conflict" else 0

    def _note(self, server: Server, kind: str, errors: dict[str, int]) -> None:
        if server.faults is not None:
            server.faults.setdefault(kind, Counter()).update(errors)
            return
        self._checks.problems += [f"{server.app}, {server.name}, {kind}: {n} times {why}" for why, n in errors.items()]
