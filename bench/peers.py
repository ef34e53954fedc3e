"""Other packages that promise the same, in the same run: FastAPI, the same load, ratios to the same unguarded server.

A peer runs in an environment of its own, set up as its documentation shows. What it does wrong is reported beside its
figures and fails no run: how fast a wrong answer comes says nothing.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from bench.apps import KINDS
from bench.children import Child, ChildFailed
from bench.contest import UNGUARDED, Contest
from bench.environments import NotInstalled, python_of
from bench.run import Run
from bench.stores import KINDS as STORES
from bench.visitor import Server, Visitor

_APP = "fastapi"
_CONNECTIONS = 64
_OURS = "retrysafe"


@dataclass(frozen=True, slots=True)
class Peer:
    """A package that others make.

    Attributes:
        name: of the package.
        version: which is measured.
        stores: which of its stores work without a service that nobody has here.
        drivers: what it needs for these.
    """

    name: str
    version: str
    stores: tuple[str, ...]
    drivers: tuple[str, ...] = ()


PEERS = (
    Peer("idemkit", "1.0.2", ("memory", "redis", "postgresql"), ("redis", "hiredis", "asyncpg")),
    Peer("fastapi-idempotency", "0.1.1", ("memory",)),
    Peer("fastapi-idempotency-key", "0.1.1", ("memory", "redis", "sqlite"), ("redis", "hiredis", "aiosqlite")),
    Peer("asgi-idempotency-header", "0.2.0", ("memory", "redis"), ("redis", "hiredis")),
)


def measure(run: Run) -> list[dict[str, Any]]:
    """Alternate an unguarded server, ours on each store, and each peer on each of its stores."""
    skipped: list[dict[str, Any]] = []
    with ExitStack() as stack:
        load, plain = (
            stack.enter_context(Child(*command)) for command in (("bench.load",), (KINDS[_APP].server, _APP))
        )
        servers = _ready(_ours(run, stack) + _theirs(run, stack, skipped), skipped)
        load.wait_until_ready()
        plain.wait_until_ready()
        visitor = Visitor(load, run.plan, run.checks)
        unguarded = Server(_APP, UNGUARDED, plain)
        contest = Contest(_APP, unguarded, servers, visitor)
        contest.warm_up(_CONNECTIONS)
        deadline = time.monotonic() + run.plan.peers_limit_seconds
        longest = 0.0
        for number in range(run.plan.web_rounds):
            started_at = time.monotonic()
            if number and started_at + longest > deadline:
                break
            run.tell(f"peers: round {number + 1} of {run.plan.web_rounds}")
            contest.round(number, _CONNECTIONS, ("replay",))
            longest = max(longest, time.monotonic() - started_at)
    faults = {server.name: server.faults or {} for server in servers}
    measured = [
        _named(row.summary() | {"faults": dict(faults.get(row.guard, {}).get(row.kind, {})), "skipped": None})
        for row in contest.rows
    ]
    return measured + skipped


def _ours(run: Run, stack: ExitStack) -> list[Server]:
    """Start our own guard on each store that somebody else has, too."""
    theirs = {store for peer in PEERS for store in peer.stores}
    return [
        Server(
            _APP,
            f"{_OURS}, {kind.name}",
            stack.enter_context(Child(KINDS[_APP].server, _APP, run.stores.place(kind))),
        )
        for kind in run.stores.one_of_each()
        if kind.base in theirs
    ]


def _theirs(run: Run, stack: ExitStack, skipped: list[dict[str, Any]]) -> list[Server]:
    """Install every peer, and start it on each of its stores."""
    servers: list[Server] = []
    for peer in PEERS:
        run.tell(f"peers: {peer.name}")
        try:
            python = python_of(f"{peer.name}-{peer.version}", (f"{peer.name}=={peer.version}", *peer.drivers))
        except NotInstalled as error:
            skipped.append(_skipped(f"{peer.name}, {' or '.join(peer.stores)}", f"cannot be installed: {error}"))
            continue
        for store in peer.stores:
            name = f"{peer.name}, {store}"
            url = _url(run, store)
            if url is None:
                skipped.append(_skipped(name, "there is no such server"))
                continue
            child = Child("bench.peer_server", peer.name, store, url, python=python, log=run.directory / "peers.log")
            servers.append(Server(_APP, name, stack.enter_context(child), faults={}))
    return servers


def _ready(servers: list[Server], skipped: list[dict[str, Any]]) -> list[Server]:
    """Wait for all of them; somebody else's that does not come takes no part."""
    ready: list[Server] = []
    for server in servers:
        try:
            server.child.wait_until_ready()
        except ChildFailed as error:
            if server.faults is None:
                raise
            skipped.append(_skipped(server.name, str(error)))
        else:
            ready.append(server)
    return ready


def _url(run: Run, store: str) -> str | None:
    """Return where a peer may keep what it knows: a database of its own in the same server as ours."""
    if store == "memory":
        return ""
    if store == "sqlite":
        return str(run.directory / "peer.db")
    needed = {"postgresql": "postgres"}.get(store, store)
    kind = next(kind for kind in STORES if kind.server == needed)
    if needed not in run.stores.services:
        return None
    url = run.stores.place(kind).partition("?")[0]
    # By itself the client refuses the 101st connection at once, and 64 requests of some peers want more.
    return f"{url}?max_connections=1000" if store == "redis" else url


def _named(row: dict[str, Any]) -> dict[str, Any]:
    package, _, store = row.pop("guard").partition(", ")
    return {"package": package, "store": store, **row}


def _skipped(name: str, why: str) -> dict[str, Any]:
    return _named({"guard": name, "kind": "fresh", "skipped": why})
