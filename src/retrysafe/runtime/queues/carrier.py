"""The one hint queue: a line to a broker that is replaced whenever it breaks, and bounded taking.

::

    start ─► connect ─► watch, probe ─► broken ─► close ─► wait ─► connect …      for ever, one task
    put   ─► is there a line? publish, confirmed : QueueUnavailable
    run   ─► a place is free? ─► next message ─► take (a task) ─► acknowledge
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from retrysafe.runtime.backoff import CHANCE
from retrysafe.runtime.queues.base import Health, Hint, QueueUnavailable, Take
from retrysafe.runtime.queues.line import Line
from retrysafe.runtime.queues.taking import Taking

PARALLEL = 16
"""How many hints are taken at once by default."""

_PUT_SECONDS = 2.0
_OPEN_SECONDS = 10.0
# Clients that are cut short leave tasks behind that try for ever; given time, they notice by themselves.
_CLOSE_SECONDS = 60.0
_PROBE_EVERY_SECONDS = 2.0
_PROBE_SECONDS = 5.0
_HELD_SECONDS = 10.0
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 5.0
_STOP_SECONDS = 10.0
_END_SECONDS = 3.0
# Enough to hide a round trip; each may be a connection of its own.
_PUBLISHED_AT_ONCE = 16
_LOG = logging.getLogger("retrysafe.queues")


class Carrier:
    """A :class:`~retrysafe.runtime.queues.base.HintQueue` over any broker; see there for what it promises."""

    def __init__(self, make_line: Callable[[], Line], *, parallel: int = PARALLEL) -> None:
        """Prepare a queue; nothing connects.

        Args:
            make_line: makes a connection that is not open yet, each time one is needed.
            parallel: how many hints are taken at once.
        """
        self._make_line = make_line
        self._taking = Taking(parallel)
        self._take: Take | None = None
        self._line: Line | None = None
        self._broken: asyncio.Future[Exception] | None = None
        self._there = asyncio.Event()
        self._attempted = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._is_down_known = False
        self._last_error: str | None = None

    async def start(self) -> None:
        """Begin to connect, and return at once."""
        if self._keeping is None:
            self._keeping = asyncio.create_task(self._keep_a_line(), name="retrysafe-queue")

    async def put(self, hints: Sequence[Hint]) -> int:
        """Publish hints; returns how many the broker confirmed.

        Raises:
            QueueUnavailable: it confirmed none within two seconds.
        """
        confirmed: list[Hint] = []
        line: Line | None = None
        try:
            async with asyncio.timeout(_PUT_SECONDS):
                line = await self._connected()
                for first in range(0, len(hints), _PUBLISHED_AT_ONCE):
                    group = hints[first : first + _PUBLISHED_AT_ONCE]
                    await asyncio.gather(*(_publish(line, hint, confirmed) for hint in group))
        except Exception as error:
            # A broker that is slow is no reason to connect again; one that is gone does not answer the next probe.
            if line is not None and not isinstance(error, TimeoutError):
                self._lose(line, error)
            if not confirmed:
                raise QueueUnavailable(f"no hint was sent: {_told(error)}") from error
        return len(confirmed)

    async def run(self, take: Take) -> None:
        """Hand each hint to ``take`` until stopped or cancelled.

        Raises:
            RuntimeError: it runs already.
        """
        if self._take is not None:
            raise RuntimeError("this queue is being run already")
        self._take = take
        reading = self._reading = asyncio.create_task(self._read_for_ever(take))
        try:
            await asyncio.wait({reading})
        except asyncio.CancelledError:
            self._taking.cancel()
            raise
        finally:
            self._take = None
            await _end(reading)
        if not reading.cancelled():
            reading.result()

    async def stop(self) -> None:
        """Take nothing more, let what is being taken end, and close."""
        self._take = None
        await _end(self._reading)
        await self._taking.wait(_STOP_SECONDS)
        self._taking.cancel()
        await _end(self._keeping)
        self._keeping = None
        if self._closing:
            await asyncio.wait(self._closing, timeout=_END_SECONDS)
        for closing in self._closing:
            closing.cancel()
        self._attempted.clear()

    @property
    def healthy(self) -> Health:
        """How it is now."""
        since = None
        if self._taking.began_at is not None:
            since = round(time.monotonic() - self._taking.began_at, 3)
        return Health(
            connected=self._line is not None,
            taking=len(self._taking),
            seconds_since_delivery=since,
            last_error=self._last_error,
        )

    # Connecting.

    async def _connected(self) -> Line:
        """Return the line; waits only for the first attempt, so that a broker which is known to be down fails at once.

        Raises:
            ConnectionError: there is none.
        """
        await self._attempted.wait()
        if self._line is None:
            raise ConnectionError(self._last_error or "not connected")
        return self._line

    async def _keep_a_line(self) -> None:
        while True:
            opened_at = time.monotonic()
            try:
                await self._use_a_line()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next line is a new one
                self._note(error)
            self._attempted.set()
            # A line that breaks as soon as it is used is as good as none.
            held = time.monotonic() - opened_at > _HELD_SECONDS
            self._failures = 0 if held else min(self._failures + 1, 16)
            longest = min(_FIRST_PAUSE_SECONDS * 2**self._failures, _LONGEST_PAUSE_SECONDS)
            # Many workers lose one broker at the same moment; they come back one by one.
            await asyncio.sleep(CHANCE.uniform(longest / 2, longest))

    async def _use_a_line(self) -> None:
        """Make a line, and let others use it until it breaks.

        Raises:
            Exception: why it did not open, or why it broke.
        """
        line = self._make_line()
        opening = asyncio.create_task(line.open())
        try:
            await asyncio.wait({opening}, timeout=_OPEN_SECONDS)
            if not opening.done():
                raise TimeoutError
            opening.result()
            await self._watch(line)
        finally:
            self._line = None
            self._there.clear()
            closing = asyncio.create_task(_close(line, opening))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _watch(self, line: Line) -> None:
        broken: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._line, self._broken = line, broken
        self._there.set()
        self._attempted.set()
        self._is_down_known = False
        _LOG.info("connected to the queue")
        while True:
            await asyncio.wait({broken}, timeout=_PROBE_EVERY_SECONDS)
            if broken.done():
                raise broken.result()
            async with asyncio.timeout(_PROBE_SECONDS):
                await line.probe()

    def _lose(self, line: Line, error: Exception) -> None:
        """Give a line up; it is not used from this moment on."""
        if line is self._line and self._broken is not None and not self._broken.done():
            self._line = None
            self._there.clear()
            self._broken.set_result(error)

    def _note(self, error: Exception) -> None:
        """Remember why there is no line; say it once, not at each attempt."""
        self._last_error = _told(error)
        if not self._is_down_known:
            self._is_down_known = True
            _LOG.warning("the queue is not connected, and hints wait for the scan: %s", self._last_error)

    # Taking.

    async def _read_for_ever(self, take: Take) -> None:
        while True:
            await self._there.wait()
            line, broken = self._line, self._broken
            if line is None or broken is None:
                continue
            reading = asyncio.create_task(self._read(line, take))
            reading.add_done_callback(_why)
            either: set[asyncio.Future[Any]] = {reading, broken}
            try:
                # A client may not notice that its connection is gone while it waits for a message.
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await _end(reading)
            if not broken.done():
                self._lose(line, _why(reading))

    async def _read(self, line: Line, take: Take) -> None:
        # Both conditions beside the cancellation, because a client may swallow that: `asyncio.wait_for` does before
        # Python 3.12, and redis-py uses it with every command.
        while self._take is take and self._line is line:
            await self._taking.place()
            begun = False
            try:
                delivery = await line.next()
                if delivery is not None and self._take is take:
                    self._taking.begin(delivery, take)
                    begun = True
            finally:
                if not begun:
                    self._taking.leave()


async def _publish(line: Line, hint: Hint, confirmed: list[Hint]) -> None:
    await line.publish(hint)
    confirmed.append(hint)


async def _close(line: Line, opening: asyncio.Task[None]) -> None:
    """Close a line once it is open, or has failed to."""
    try:
        await asyncio.wait({opening}, timeout=_CLOSE_SECONDS)
    finally:
        opening.cancel()
        await _close_now(line)


async def _close_now(line: Line) -> None:
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await line.close()
    except Exception as error:  # noqa: BLE001 - it is of no use any more, and its end is nobody's concern
        _LOG.debug("a line to the queue did not close: %s", _told(error))


async def _end(task: asyncio.Task[None] | None) -> None:
    """Cancel a task and wait until it has ended, but not for ever: not every client ends when it is told to."""
    if task is not None and not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_END_SECONDS)


def _why(ended: asyncio.Task[None]) -> Exception:
    """Say why a task has ended that should not have."""
    error = None if ended.cancelled() or not ended.done() else ended.exception()
    return error if isinstance(error, Exception) else ConnectionError("the client stopped to read")


def _told(error: BaseException) -> str:
    """Say in one line what went wrong."""
    text = " ".join(str(error).split()) or "no answer in time"
    return f"{type(error).__name__}: {text[:200]}"
