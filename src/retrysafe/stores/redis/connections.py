"""What a store has open in this process: lines for threads, a wire for each event loop, and nothing after a fork."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from retrysafe.stores.program import Program
from retrysafe.stores.redis.calls import Call, Introduction, Reply, Words
from retrysafe.stores.redis.line import Lines
from retrysafe.stores.redis.settings import Settings
from retrysafe.stores.redis.wire import Wire, close_quietly

T = TypeVar("T")


class Transport(Protocol):
    """How calls reach Redis and answers come back."""

    def exchange(self, calls: Sequence[Call]) -> Sequence[Reply]:
        """Run scripts from any thread, and block until all are answered."""
        ...

    def command(self, words: Words) -> Sequence[object]:
        """Ask every primary something that is no script's, and return what they answer, errors too."""
        ...

    def introduce(self, introduction: Introduction) -> None:
        """Have each new connection begin so from now on, as far as connections are ours to make."""
        ...

    async def arun(self, program: Program[T]) -> T:
        """Run a program on any event loop; when its caller is cancelled it goes on to its end."""
        ...

    def close(self) -> None:
        """Release what threads used; safe to call again."""
        ...

    async def aclose(self) -> None:
        """Release what this event loop used, and what threads used."""
        ...


class Connections:
    """Connections of our own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._introduction: Introduction | None = None
        self._start_over()
        _remember(self)

    def _start_over(self) -> None:
        self._door = threading.Lock()
        self._lines = Lines(self._settings, self._introduction)
        self._wires: dict[asyncio.AbstractEventLoop, Wire] = {}
        self._connecting: dict[asyncio.AbstractEventLoop, asyncio.Task[Wire]] = {}

    def exchange(self, calls: Sequence[Call]) -> Sequence[Reply]:
        """Run scripts from any thread; see :meth:`Transport.exchange`."""
        return self._lines.exchange(calls)

    def command(self, words: Words) -> Sequence[object]:
        """Ask the server something; see :meth:`Transport.command`."""
        return [self._lines.command(words)]

    def introduce(self, introduction: Introduction) -> None:
        """Have each new connection begin so; see :meth:`Transport.introduce`."""
        self._introduction = self._lines.introduction = introduction

    async def arun(self, program: Program[T]) -> T:
        """Run a program on any event loop; see :meth:`Transport.arun`."""
        wire = self._wires.get(asyncio.get_running_loop())
        if wire is None or wire.closed:
            wire = await self._wire()
        return await wire.run(program)

    def close(self) -> None:
        """Close the connections for threads, and what event loops that are closed have left."""
        with self._door:
            lines, self._lines = self._lines, Lines(self._settings, self._introduction)
            self._forget_finished()
        lines.close()

    async def aclose(self) -> None:
        """Close this event loop's connection, and those for threads."""
        loop = asyncio.get_running_loop()
        with self._door:
            wire = self._wires.pop(loop, None)
            connecting = self._connecting.pop(loop, None)
        if connecting is not None:
            connecting.cancel()
        if wire is not None:
            wire.close()
        self.close()

    def close_all(self) -> None:
        """Close everything; nobody has the store any more."""
        for wire in self._wires.values():
            close_quietly(wire)
        self._wires.clear()
        self.close()

    def start_over(self) -> None:
        """Begin with nothing, in a forked child: the connections are the parent's."""
        self._lines.disown()
        wires = list(self._wires.values())
        for wire in wires:
            wire.disown()
        _INHERITED.extend([self._lines, wires, self._connecting])
        self._start_over()

    async def _wire(self) -> Wire:
        """Connect this event loop; whoever comes meanwhile waits for the same connection."""
        loop = asyncio.get_running_loop()
        with self._door:
            self._forget_finished()
            connecting = self._connecting.get(loop)
            if connecting is None:
                connecting = self._connecting[loop] = loop.create_task(Wire.connect(self._settings, self._introduction))
                connecting.add_done_callback(self._connected)
        # One who goes away takes nobody along.
        return await asyncio.shield(connecting)

    def _connected(self, task: asyncio.Task[Wire]) -> None:
        loop = task.get_loop()
        if self._connecting.get(loop) is task:
            del self._connecting[loop]
        if not task.cancelled() and task.exception() is None:
            self._wires[loop] = task.result()

    def _forget_finished(self) -> None:
        for loop in [loop for loop in self._wires if loop.is_closed()]:
            close_quietly(self._wires.pop(loop))


_EVERY: weakref.WeakSet[Connections] = weakref.WeakSet()
_INHERITED: list[Any] = []
"""What forked children got from their parents and must neither use nor collect."""
_hooked = threading.Lock()


def _remember(connections: Connections) -> None:
    # The lock is taken once and never given back: it says that the hook is in place.
    if _hooked.acquire(blocking=False):
        os.register_at_fork(after_in_child=_in_child)
    _EVERY.add(connections)


def _in_child() -> None:
    for connections in list(_EVERY):
        connections.start_over()
