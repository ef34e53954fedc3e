"""A store that fails on purpose: errors, delays and sudden death, before or after a verb.

::

    store = FaultyStore(SQLiteStore("shop.db"), fail("record", call=1))
    store.plan(kill("claim", when="after"))

With nothing planned it is its inner store, and keeps the store contract. *Before* means that nothing of the verb has
happened; *after* that it is durable and only its answer is lost. So ``fail("record", when="after")`` is a commit of
unknown result (D4), and ``kill("record")`` a process that dies with the effect done and nothing recorded.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Literal, TypeVar, cast

from msgspec.structs import replace

from retrysafe.errors import StoreUnavailable
from retrysafe.stores.base import AsyncStore, Capability, Meta, Store, Verbs
from retrysafe.stores.program import Factory, Program

T = TypeVar("T")

When = Literal["before", "after"]
"""On which side of the verb a fault strikes."""

EVERY_VERB = "*"
"""Stands for every verb, and for opening the store."""

_LOOK_EVERY_SECONDS = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong; made by :func:`fail`, :func:`delay`, :func:`hold` and :func:`kill`.

    Attributes:
        verb: at which verb of :class:`~retrysafe.stores.base.Verbs`; ``open``, or ``*`` for every one.
        when: before or after it.
        call: at its n-th call only, counted from 1 when the fault is planned; None is each call.
        seconds: how long to wait.
        gate: what to wait for.
        error: makes what is raised.
        kills: whether the process dies.
    """

    verb: str
    when: When = "before"
    call: int | None = None
    seconds: float = 0.0
    gate: threading.Event | None = None
    error: Callable[[], Exception] | None = None
    kills: bool = False


def fail(
    verb: str, *, when: When = "before", call: int | None = None, error: Callable[[], Exception] | None = None
) -> Fault:
    """Raise at a verb: what ``error`` makes, by default ``StoreUnavailable``."""
    unavailable = partial(StoreUnavailable, f"a planned fault at {verb}")
    return Fault(verb=verb, when=when, call=call, error=error or unavailable)


def delay(verb: str, duration: timedelta, *, when: When = "before", call: int | None = None) -> Fault:
    """Make a verb slow."""
    return Fault(verb=verb, when=when, call=call, seconds=duration.total_seconds())


def hold(verb: str, gate: threading.Event, *, when: When = "before", call: int | None = None) -> Fault:
    """Stop at a verb until ``gate`` is set."""
    return Fault(verb=verb, when=when, call=call, gate=gate)


def kill(verb: str, *, when: When = "before", call: int | None = None) -> Fault:
    """End this very process at a verb with ``SIGKILL``: no handler runs, nothing is flushed, nobody is told."""
    return Fault(verb=verb, when=when, call=call, kills=True)


class FaultyStore:
    """Any store, for threads and event loops, with faults that are planned.

    Every method is safe to call from any thread. A store that has only one face has only that face here, too.

    Attributes:
        traits: what the inner store declares about itself.
        verbs: what it can be asked.
    """

    def __init__(self, store: Store | AsyncStore, *faults: Fault) -> None:
        """Wrap ``store``.

        Args:
            store: the store that does the work.
            faults: planned from the start.
        """
        # A delay or a hold has to be waited for.
        capabilities = store.traits.capabilities - {Capability.AT_ONCE}
        self.traits = replace(store.traits, capabilities=capabilities)
        self.verbs = cast(Verbs, _NamedVerbs(store.verbs))
        self._sync = cast(Store, store)
        self._aio = cast(AsyncStore, store)
        self._planned: list[_Planned] = []
        self._calls: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.plan(*faults)

    def plan(self, *faults: Fault) -> None:
        """Add faults to what goes wrong from now on; several that strike at once do so in the order of planning.

        Raises:
            ValueError: the store has no such verb, so that the fault would never strike.
        """
        for fault in faults:
            if fault.verb not in {EVERY_VERB, "open"} and not hasattr(self.verbs, fault.verb):
                raise ValueError(f"the store has no verb {fault.verb!r}")
        with self._lock:
            self._planned.extend(_Planned(fault) for fault in faults)

    def heal(self) -> None:
        """Forget every planned fault; who waits in one already stays there."""
        with self._lock:
            self._planned.clear()

    @property
    def calls(self) -> Mapping[str, int]:
        """How often each verb was called until now, failed calls too."""
        with self._lock:
            return Counter(self._calls)

    def open(self) -> Meta:
        """Open the inner store."""
        return self._carry_out("open", self._sync.open)

    def run(self, program: Factory[T]) -> T:
        """Run a program in the inner store."""
        return self._carry_out(_verb(program), partial(self._sync.run, program))

    def query(self, program: Factory[T]) -> T:
        """Run a program that only reads in the inner store."""
        return self._carry_out(_verb(program), partial(self._sync.query, program))

    def close(self) -> None:
        """Close the inner store; never a fault."""
        self._sync.close()

    async def aopen(self) -> Meta:
        """Open the inner store."""
        before, after = self._faults("open")
        await _astrike(before)
        meta = await self._aio.aopen()
        await _astrike(after)
        return meta

    async def arun(self, program: Factory[T]) -> T:
        """Run a program in the inner store."""
        before, after = self._faults(_verb(program))
        await _astrike(before)
        reply = await self._aio.arun(program)
        await _astrike(after)
        return reply

    async def aquery(self, program: Factory[T]) -> T:
        """Run a program that only reads in the inner store."""
        before, after = self._faults(_verb(program))
        await _astrike(before)
        reply = await self._aio.aquery(program)
        await _astrike(after)
        return reply

    async def aclose(self) -> None:
        """Close the inner store; never a fault."""
        await self._aio.aclose()

    def _carry_out(self, verb: str, work: Callable[[], T]) -> T:
        before, after = self._faults(verb)
        _strike(before)
        reply = work()
        _strike(after)
        return reply

    def _faults(self, verb: str) -> tuple[list[Fault], list[Fault]]:
        """Count a call, and return what strikes before it and after it."""
        with self._lock:
            self._calls[verb] += 1
            due = [planned.fault for planned in self._planned if planned.is_due(verb)]
        return [fault for fault in due if fault.when == "before"], [fault for fault in due if fault.when == "after"]


class _Planned:
    """A fault, and how many calls of its verb it has seen."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._seen = 0

    def is_due(self, verb: str) -> bool:
        if self.fault.verb not in {verb, EVERY_VERB}:
            return False
        self._seen += 1
        return self.fault.call in {None, self._seen}


def _strike(faults: list[Fault]) -> None:
    for fault in faults:
        if fault.gate is not None:
            fault.gate.wait()
        if fault.seconds:
            time.sleep(fault.seconds)
        _end(fault)


async def _astrike(faults: list[Fault]) -> None:
    for fault in faults:
        if fault.gate is not None:
            await _passed(fault.gate)
        if fault.seconds:
            await asyncio.sleep(fault.seconds)
        _end(fault)


async def _passed(gate: threading.Event) -> None:
    # Looked at again and again, because a thread that waits for it would outlive a cancelled task.
    while not gate.is_set():  # noqa: ASYNC110 - it is set from any thread
        await asyncio.sleep(_LOOK_EVERY_SECONDS)


def _end(fault: Fault) -> None:
    if fault.kills:
        os.kill(os.getpid(), signal.SIGKILL)
    if fault.error is not None:
        raise fault.error()


def _verb(program: Factory[Any]) -> str:
    """Name the verb that a program carries out; making it once more does nothing."""
    name: str = getattr(program(), "__name__", "")
    return name


class _NamedVerbs:
    """The verbs of a store, whose programs carry their verb's name whatever the store calls them inside."""

    def __init__(self, verbs: Verbs) -> None:
        self._verbs = verbs

    def __getattr__(self, name: str) -> Callable[..., Program[Any]]:
        verb: Callable[..., Program[Any]] = getattr(self._verbs, name)

        def program(*args: object, **kwargs: object) -> Program[Any]:
            return (yield from verb(*args, **kwargs))

        program.__name__ = name
        return program
