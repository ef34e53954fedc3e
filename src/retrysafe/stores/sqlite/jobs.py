"""Programs on their way through the writer, and how whoever waits for one gets its reply."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from threading import Lock
from typing import Any

from retrysafe.stores.program import Factory


class Job:
    """A program, and what became of it.

    Attributes:
        program: makes the program; called again when it must run again.
        reply: what it returned.
        error: what it raised instead.
    """

    __slots__ = ("error", "program", "reply")

    def __init__(self, program: Factory[Any]) -> None:
        self.program = program
        self.reply: Any = None
        self.error: BaseException | None = None


class ThreadJob(Job):
    """A job that a thread waits for."""

    __slots__ = ("_unfinished",)

    def __init__(self, program: Factory[Any]) -> None:
        super().__init__(program)
        # A bare lock is the cheapest event: held until the job is finished.
        self._unfinished = Lock()
        self._unfinished.acquire()

    def finish(self) -> None:
        """Wake the thread."""
        self._unfinished.release()

    def wait(self) -> Any:  # noqa: ANN401 - the caller's factory says what it returns
        """Wait until the job is finished, and return or raise what became of it."""
        self._unfinished.acquire()
        if self.error is not None:
            raise self.error
        return self.reply


class LoopJob(Job):
    """A job that a task waits for.

    Attributes:
        loop: the task's loop.
        future: what it awaits; cancelled when the task is, which does not concern the job.
    """

    __slots__ = ("future", "loop")

    def __init__(self, program: Factory[Any], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(program)
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()

    def settle(self) -> None:
        """Give the future what became of the job; only in the loop's own thread."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.reply)


def deliver(jobs: Iterable[Job]) -> None:
    """Wake everybody who waits for one of the jobs; each loop is woken once, however many wait on it."""
    by_loop: dict[asyncio.AbstractEventLoop, list[LoopJob]] = {}
    for job in jobs:
        if isinstance(job, LoopJob):
            by_loop.setdefault(job.loop, []).append(job)
        elif isinstance(job, ThreadJob):
            job.finish()
    for loop, some in by_loop.items():
        # A closed loop has nobody left who waits.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle, some)


def _settle(jobs: Sequence[LoopJob]) -> None:
    for job in jobs:
        job.settle()
