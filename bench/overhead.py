"""The protocol and its ASGI adapter alone: CPU per request beyond the application and beyond the store's own verbs.

Everything runs in this process, without sockets: the application bare, the application guarded on the memory store
(new keys, then the same keys again), and the store's verbs with asks that were made before. Batches of all of these
alternate; the figure is the median over rounds of what is left when application and verbs are taken away.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

import uvloop

from bench.apps import bare_app, guard_on
from bench.asks import body_of, headers_of, make_asks, record_bytes
from bench.charge import PATH, Effects
from bench.pairs import make_pair
from bench.run import Run
from retrysafe.adapters.asgi import RetrySafeMiddleware
from retrysafe.adapters.asgi.types import App, Message, Scope
from retrysafe.protocol.model import Ask
from retrysafe.protocol.verdicts import Finished
from retrysafe.stores.urls import AnyStore, open_store

_TASKS = 64


class Caller:
    """One request as a server would bring it, and what came back."""

    __slots__ = ("body", "replayed", "scope", "status")

    def __init__(self, number: int) -> None:
        self.body = body_of(number)
        self.scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": ("127.0.0.1", 8000),
            "client": ("127.0.0.1", 40_000),
            "scheme": "http",
            "root_path": "",
            "method": "POST",
            "path": PATH,
            "raw_path": PATH.encode(),
            "query_string": b"",
            "headers": headers_of(number, self.body),
            "state": {},
        }
        self.status = 0
        self.replayed = False

    async def receive(self) -> Message:
        return {"type": "http.request", "body": self.body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.replayed = any(name == b"idempotent-replayed" for name, _ in message["headers"])


@dataclass(slots=True)
class Overhead:
    """CPU in µs per request, one figure for each round."""

    app: list[float] = field(default_factory=list)
    fresh: list[float] = field(default_factory=list)
    replay: list[float] = field(default_factory=list)
    store_fresh: list[float] = field(default_factory=list)
    store_replay: list[float] = field(default_factory=list)

    def summary(self) -> list[dict[str, Any]]:
        """Return medians as plain data; what a replay spares is the application."""
        fresh = [a - b - c for a, b, c in zip(self.fresh, self.app, self.store_fresh, strict=True)]
        replay = [a - b for a, b in zip(self.replay, self.store_replay, strict=True)]
        return [
            _summary("fresh", fresh, whole=self.fresh, app=median(self.app), store=self.store_fresh),
            _summary("replay", replay, whole=self.replay, app=0.0, store=self.store_replay),
        ]


def _summary(kind: str, left: list[float], *, whole: list[float], app: float, store: list[float]) -> dict[str, Any]:
    return {
        "kind": kind,
        "rounds": len(left),
        "cpu_us": median(left),
        "cpu_us_low": min(left),
        "cpu_us_high": max(left),
        "whole_cpu_us": median(whole),
        "app_cpu_us": app,
        "store_cpu_us": median(store),
    }


def measure(run: Run) -> list[dict[str, Any]]:
    """Alternate batches."""
    found, plan = Overhead(), run.plan
    calls = min(plan.most, plan.overhead_calls)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        asks = runner.run(make_asks(calls))
        for number in range(plan.overhead_rounds):
            run.tell(f"adapter: round {number + 1} of {plan.overhead_rounds}")
            runner.run(_round(found, asks))
    return found.summary()


async def _round(found: Overhead, asks: list[Ask]) -> None:
    effects = Effects()
    app = bare_app(effects)
    guard = guard_on("memory://")
    guarded = RetrySafeMiddleware(app, guard)
    store = open_store("memory://")
    await guard.aengine()
    callers = [Caller(number) for number in range(len(asks))]
    outcome = record_bytes()
    try:
        found.app.append(await _batch([partial(_call, app, caller, replayed=False) for caller in callers]))
        effects.count = 0
        found.fresh.append(await _batch([partial(_call, guarded, caller, replayed=False) for caller in callers]))
        assert effects.count == len(asks)
        found.replay.append(await _batch([partial(_call, guarded, caller, replayed=True) for caller in callers]))
        assert effects.count == len(asks)
        found.store_fresh.append(await _batch([partial(make_pair, store, ask, outcome) for ask in asks]))
        found.store_replay.append(await _batch([partial(_met, store, ask) for ask in asks]))
    finally:
        guard.close()


async def _batch(calls: Sequence[Callable[[], Awaitable[object]]]) -> float:
    """Make calls from 64 tasks at once, as a busy server does; return CPU in µs for each."""
    left = iter(calls)

    async def work() -> None:
        for call in left:
            await call()

    gc.collect()
    started_at = time.process_time()
    await asyncio.gather(*(work() for _ in range(_TASKS)))
    return 1e6 * (time.process_time() - started_at) / len(calls)


async def _call(app: App, caller: Caller, *, replayed: bool) -> None:
    await app(caller.scope, caller.receive, caller.send)
    assert caller.status == 201
    assert caller.replayed is replayed


async def _met(store: AnyStore, ask: Ask) -> None:
    assert isinstance(await store.arun(partial(store.verbs.claim, ask)), Finished)
