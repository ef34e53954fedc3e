"""Clients that ask at the same moment, and what must be true of any history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import Barrier
from typing import Any

from tests.crash.processes import PATIENCE_SECONDS, Server, Town, until
from tests.servers.wire import Reply

Ask = Callable[[int], Reply]
"""What the client with this number does."""


class Crowd:
    """So many clients, each a thread."""

    def __init__(self, threads: ThreadPoolExecutor, size: int) -> None:
        self._threads = threads
        self.size = size

    def ask(self, ask: Ask) -> list[Reply]:
        """Have every client ask at once, and return what each heard."""
        start = Barrier(self.size)

        def one(number: int) -> Reply:
            start.wait(PATIENCE_SECONDS)
            return ask(number)

        return list(self._threads.map(one, range(self.size)))


@contextmanager
def crowd(size: int) -> Iterator[Crowd]:
    with ThreadPoolExecutor(size) as threads:
        yield Crowd(threads, size)


def two(town: Town, **changes: Any) -> Sequence[Server]:
    """Two processes on one file that are up."""
    servers = [town.start(**changes) for _ in range(2)]
    for number, server in enumerate(servers):
        until(partial(server.post, key=f"a-key-to-warm-up-{number}"), "it is up")
    town.forget_ledger()
    return servers


def check(town: Town) -> None:
    """Judge a history: no attempt ran twice, and attempts of an operation come one after the other (C1, C4, I3)."""
    runs = Counter((entry["operation"], entry["attempt"]) for entry in town.ledger)
    assert [run for run, times in runs.items() if times > 1] == []
    attempts: dict[str, list[int]] = {}
    for entry in town.ledger:
        attempts.setdefault(entry["operation"], []).append(entry["attempt"])
    assert all(numbers == sorted(numbers) for numbers in attempts.values())
