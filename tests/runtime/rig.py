"""A runtime without a surface: an engine on a faulty memory store, with time that moves only by hand."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from hashlib import blake2b
from typing import Any, TypeVar

from retrysafe import Event, Mode, Policy, Response
from retrysafe.http.replay import outcome_of
from retrysafe.protocol import effects as fx
from retrysafe.protocol.encoding import encode_request
from retrysafe.protocol.model import Ask, Checkpoint, Claim, Identity, StoredRequest
from retrysafe.protocol.ordinary import Ordinary
from retrysafe.protocol.verdicts import Claimed
from retrysafe.runtime.clock import uuid7
from retrysafe.runtime.engine import Engine
from retrysafe.runtime.runs import AsyncRun, Run
from retrysafe.stores.memory import MemoryStore
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.faults import FaultyStore
from tests.protocol.samples import asked

E = TypeVar("E", bound=Event)

NAME = "POST /charges"
RERUN = StoredRequest("POST", b"/charges", (), b"{}", NAME)
CREATED = Response(201, {"charge": 1})
ONCE = Policy()
AGAIN = Policy(mode="again")


class Time(ManualClock):
    """The store's wall clock and the process's monotonic clock at once."""

    def monotonic(self) -> float:
        return self()


class Events(list[Event]):
    """A sink that keeps everything."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self if isinstance(event, kind)]

    @property
    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self]


class Rig:
    """An engine that is open, its store, its time and its events."""

    def __init__(self, *, max_waiters: int = 64) -> None:
        self.time = Time(1_000_000.0)
        self.store = FaultyStore(MemoryStore(clock=self.time))
        self.events = Events()
        self.engine = Engine(self.store, self.store, emit=self.events, max_waiters=max_waiters, clock=self.time)
        self.engine.open(pepper=None, secrets=())
        # The keeper's threads would look when they like; here a test looks when it means to.
        self.engine.keeper._started, self.engine.keeper._tick_seconds = True, 0.0

    def run(
        self, policy: Policy = ONCE, key: str = "k", *, stop: Callable[[], None] | None = None, **how: Any
    ) -> Run[fx.Answer]:
        """A request that is about to be answered on a thread."""
        flow = Ordinary(ask(policy, key), policy, how.pop("wait_seconds", 0.0))
        return Run(self.engine, flow, policy, name=NAME, stop=stop or nobody, **how)

    def arun(
        self, policy: Policy = ONCE, key: str = "k", *, stop: Callable[[], None] | None = None, **how: Any
    ) -> AsyncRun[fx.Answer]:
        """The same for an event loop."""
        flow = Ordinary(ask(policy, key), policy, how.pop("wait_seconds", 0.0))
        return AsyncRun(self.engine, flow, policy, name=NAME, stop=stop or nobody, **how)

    def begin(
        self, policy: Policy = ONCE, key: str = "k", *, stop: Callable[[], None] | None = None
    ) -> tuple[Run[fx.Answer], Claim]:
        """A request whose operation runs right now."""
        run = self.run(policy, key, stop=stop)
        step = run.advance()
        assert isinstance(step, fx.Execute)
        assert step.claim is not None
        return run, step.claim

    def claim(self, policy: Policy = ONCE, key: str = "k") -> Claim:
        """A claim of another process: the engine knows nothing of it."""
        verdict = self.store.run(partial(self.store.verbs.claim, ask(policy, key)))
        assert isinstance(verdict, Claimed)
        return verdict.claim

    def checkpoint(self, key: str = "k") -> Checkpoint:
        """What is stored for a key."""
        met = self.store.query(partial(self.store.verbs.read, digest(key)))
        assert met is not None
        return met


def digest(key: str) -> bytes:
    return blake2b(key.encode(), digest_size=16).digest()


def ask(policy: Policy = ONCE, key: str = "k", body: bytes = b"{}") -> Ask:
    """What a request asks for; each time a new attempt."""
    mode = Mode(policy.mode)
    return Ask(
        identity=Identity(digest(key), "default", "alice", key[:4]),
        fingerprint=asked(body),
        attempt_id=uuid7(),
        name=NAME,
        mode=mode,
        lease_seconds=policy.lease_seconds,
        tombstone_seconds=policy.tombstone_seconds,
        limits=policy.limits,
        request=None if mode is Mode.ONCE else encode_request(RERUN),
        version=policy.version,
    )


def returned(response: Response = CREATED) -> fx.Returned:
    """What a surface tells of an operation that returned."""
    return fx.Returned(response, outcome_of(response))


def raised(error: Exception) -> fx.Raised:
    """What a surface tells of an operation that raised."""
    return fx.Raised(error, returned(Response(500, "failed")))


def nobody() -> None:
    """There is nobody to stop."""


def until(condition: Callable[[], object], what: str, *, within: timedelta = timedelta(seconds=20)) -> None:
    """Look until something is so."""
    give_up_at = time.monotonic() + within.total_seconds()
    while not condition():
        assert time.monotonic() < give_up_at, f"still not so after {within}: {what}"
        time.sleep(0.005)


async def auntil(condition: Callable[[], object], what: str, *, within: timedelta = timedelta(seconds=20)) -> None:
    """Look until something is so, and let the loop go on."""
    give_up_at = time.monotonic() + within.total_seconds()
    while not condition():
        assert time.monotonic() < give_up_at, f"still not so after {within}: {what}"
        await asyncio.sleep(0.001)
