"""Sending what operations tell others: at least once, with an id by which consumers drop repeats (R12)."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from retrysafe.errors import StoreError
from retrysafe.stores.base import Outgoing

if TYPE_CHECKING:
    from retrysafe.runtime.engine import Engine

Publish = Callable[[Outgoing], Awaitable[None] | None]
"""Sends one message to where it belongs. Returns when it has certainly arrived; raises to have it sent again later."""

_AT_ONCE = 100
# A process that dies while it sends holds its messages back for so long.
_LEASE_SECONDS = 30.0
_PATIENCE_SECONDS = 20.0


class Relay:
    """Takes messages out of the outbox and has the application publish them."""

    def __init__(self, engine: Engine, publish: Publish) -> None:
        """Know where to take them from and how to send them."""
        self._engine = engine
        self._publish = publish

    def work(self, stopping: Callable[[], bool]) -> int:
        """Send what is due; returns how many have left.

        The messages of one operation leave in their order: when one fails, those behind it that were taken with it
        wait, too.

        Raises:
            StoreError: the outbox cannot be read or written.
        """
        store, sent = self._engine.sync, 0
        while not stopping():
            due = store.run(partial(store.verbs.take_messages, _AT_ONCE, _LEASE_SECONDS))
            gone = self._send(due, stopping)
            if gone:
                store.run(partial(store.verbs.sent_messages, gone))
            sent += len(gone)
            if len(gone) < _AT_ONCE:
                break
        return sent

    def _send(self, due: Sequence[Outgoing], stopping: Callable[[], bool]) -> list[Outgoing]:
        gone: list[Outgoing] = []
        held: set[str] = set()
        for message in due:
            if stopping():
                break
            if message.operation_id in held:
                continue
            try:
                self._publish_one(message)
            except Exception as error:  # noqa: BLE001 - whatever it is, the message stays and is sent again
                held.add(message.operation_id)
                self._engine.failed(message.message.topic, "publish", StoreError(type(error).__name__))
            else:
                gone.append(message)
        return gone

    def _publish_one(self, message: Outgoing) -> None:
        loop = self._engine.loop
        if not inspect.iscoroutinefunction(self._publish):
            self._publish(message)
        elif loop is not None and loop.is_running():
            sending = asyncio.run_coroutine_threadsafe(self._publish(message), loop)
            try:
                sending.result(_PATIENCE_SECONDS)
            except TimeoutError:
                # Or it might publish behind its own repetition.
                sending.cancel()
                raise
        else:
            asyncio.run(self._publish(message))
