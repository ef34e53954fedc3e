"""One connection for one event loop, shared by everything on it: commands leave together, answers come in their order.

A caller that goes away leaves its command where it is, so that nothing that follows is mistaken for its answer. The
program goes on without it, to its end.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar, cast

from retrysafe.errors import RetrySafeError, StoreUnavailable
from retrysafe.stores.program import Answer, Program
from retrysafe.stores.redis.calls import Call, Introduction, ask
from retrysafe.stores.redis.resp import (
    ReplyError,
    check_introduced,
    check_waited,
    is_unknown_script,
    leads_away,
    lost,
    packed,
    packed_command,
    packed_whole,
    reader,
    translated,
)
from retrysafe.stores.redis.settings import Settings

T = TypeVar("T")


class Run(Generic[T]):
    """A program on its way: each answer makes it go on.

    Attributes:
        done: what it ends in, whoever still waits for that.
    """

    __slots__ = ("_left", "_program", "_refusal", "_replies", "_wire", "calls", "done")

    def __init__(self, wire: Wire, program: Program[T]) -> None:
        self._wire = wire
        self._program = program
        self.done: asyncio.Future[T] = wire.loop.create_future()
        self.calls: Sequence[Call] = ()
        self._replies: list[Any] = []
        self._left = 0
        self._refusal: Exception | None = None

    def go_on(self, answer: Answer | None) -> None:
        """Let the program see an answer, and send what it asks next."""
        try:
            statement = next(self._program) if answer is None else self._program.send(answer)
        except StopIteration as end:
            if not self.done.done():
                self.done.set_result(end.value)
        except Exception as error:  # noqa: BLE001 - it is the caller's
            self.fail(error)
        else:
            calls: Sequence[Any] = statement.parameters
            self.calls = calls
            self._left = len(calls)
            self._replies = [None] * self._left
            self._wire.send(self)

    def take(self, number: int, reply: Any) -> None:  # noqa: ANN401 - whatever a script answers
        """Take the answer to one call of the statement."""
        if isinstance(reply, ReplyError):
            if is_unknown_script(reply):
                self._wire.send_whole(self, number)
                return
            self._refusal = reply
            if leads_away(reply):
                self._wire.leave()
        self._replies[number] = reply
        self._left -= 1
        if self._left:
            return
        if self._refusal is None:
            self.go_on(Answer(self._replies))
        else:
            self.fail(translated(self._refusal))

    def fail(self, error: Exception) -> None:
        """End here."""
        self._program.close()
        if not self.done.done():
            self.done.set_exception(error)


class Wire(asyncio.Protocol):
    """The connection.

    Attributes:
        loop: whose it is.
        closed: whether it has ended.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.loop = asyncio.get_running_loop()
        self.closed = False
        self._transport: asyncio.Transport | None = None
        self._reader = reader()
        self._handshake: asyncio.Future[None] = self.loop.create_future()
        self._handshakes = 0
        self._outgoing: list[bytes] = []
        self._pending: deque[tuple[Run[Any], int] | None] = deque()
        """Who is answered next, and which of its calls; None is a WAIT."""
        self._held: list[tuple[Run[Any], int, Any]] = []
        """Answers that count once replicas have what they tell of."""
        self._heard_at = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._farewell: AsyncGenerator[None] | None = None

    @classmethod
    async def connect(cls, settings: Settings, introduction: Introduction | None) -> Wire:
        """Connect.

        Raises:
            StoreUnavailable: the server is not there, not ready, or refuses us.
        """
        wire = cls(settings)
        try:
            async with asyncio.timeout(settings.timeout_seconds):
                await wire.loop.create_connection(
                    lambda: wire,
                    settings.host,
                    settings.port,
                    ssl=None if settings.tls is None else settings.tls.context(),
                    server_hostname=None if settings.tls is None else settings.host,
                )
                await wire._handshake
                if introduction is not None:
                    check_introduced(await wire.run(ask(introduction.call)), introduction)
        except TimeoutError:
            wire.close()
            raise lost(f"no connection within {settings.timeout_seconds:g} s") from None
        except OSError as error:
            raise lost(error) from error
        except BaseException:
            wire.close()
            raise
        wire._farewell = _closing(wire)
        await anext(wire._farewell)
        return wire

    def run(self, program: Program[T]) -> asyncio.Future[T]:
        """Begin a program at once; it goes on by itself."""
        run = Run(self, program)
        run.go_on(None)
        return run.done

    def send(self, run: Run[Any]) -> None:
        """Send the calls of a run's statement."""
        calls = run.calls
        if len(calls) == 1:
            self._send([packed(calls[0])], [(run, 0)])
        elif calls:
            self._send([packed(call) for call in calls], [(run, number) for number in range(len(calls))])
        else:
            run.go_on(Answer())

    def send_whole(self, run: Run[Any], number: int) -> None:
        """Send one call again, with the text of its script."""
        self._send([packed_whole(run.calls[number])], [(run, number)])

    def close(self) -> None:
        """Close the connection; what is under way fails, and nothing is known about it."""
        if self._transport is not None:
            self._transport.abort()
        self._end(lost("the store was closed"))

    def leave(self) -> None:
        """Give a server up that is no primary any more, once its answers of this moment have been given."""
        self.loop.call_soon(self._leave)

    def _leave(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._end(lost("the server is not the primary any more"))

    def disown(self) -> None:
        """Let go of a socket that belongs to the process that forked, without a word to the server or to the loop.

        The loop's own list of sockets is shared with the parent: it must not hear of it.
        """
        if self._transport is not None and not self.closed:
            nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            os.dup2(nowhere, self._transport.get_extra_info("socket").fileno(), inheritable=False)
            os.close(nowhere)

    def _send(self, commands: list[bytes], entries: list[tuple[Run[Any], int]]) -> None:
        if self._transport is None or self.closed:
            for run, _ in entries[:1]:
                run.fail(lost(None))
            return
        # Alone, it leaves at once; in a crowd, with all that others ask in the same turn of the loop.
        alone = not self._pending
        if alone:
            self._heard_at = self.loop.time()
            if self._watch is None:
                self._watch = self.loop.call_later(self._settings.timeout_seconds, self._look)
        if not self._outgoing and not alone:
            self.loop.call_soon(self._flush)
        self._outgoing += commands
        self._pending.extend(entries)
        if alone:
            self._flush()

    def _flush(self) -> None:
        if self._transport is None or not self._outgoing:
            return
        if self._settings.wait:
            self._outgoing.append(packed_command(self._settings.waiting))
            self._pending.append(None)
        outgoing, self._outgoing = self._outgoing, []
        self._transport.write(b"".join(outgoing) if len(outgoing) > 1 else outgoing[0])

    def _look(self) -> None:
        """Give the connection up if it has been silent for too long while somebody waits."""
        self._watch = None
        if self.closed or not self._pending:
            return
        left = self._heard_at + self._settings.timeout_seconds - self.loop.time()
        if left > 0:
            self._watch = self.loop.call_later(left, self._look)
            return
        if self._transport is not None:
            self._transport.abort()
        self._end(lost(f"the server has not answered for {self._settings.timeout_seconds:g} s"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Introduce ourselves."""
        self._transport = cast("asyncio.Transport", transport)
        commands = self._settings.handshake()
        self._handshakes = len(commands)
        self._transport.write(b"".join(map(packed_command, commands)))

    def data_received(self, some: bytes) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Give each answer to whoever asked."""
        self._reader.feed(some)
        self._heard_at = self.loop.time()
        gets, pending = self._reader.gets, self._pending
        try:
            while (reply := gets()) is not False:
                if self._handshakes:
                    self._greeted(reply)
                elif self._settings.wait:
                    self._hold(pending.popleft(), reply)
                else:
                    entry = pending.popleft()
                    if entry is not None:
                        entry[0].take(entry[1], reply)
        except Exception as error:  # noqa: BLE001 - no answer can be told from another any more
            if self._transport is not None:
                self._transport.abort()
            self._end(lost(error))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who waits."""
        self._end(lost(exc or "the server closed the connection"))

    def _greeted(self, reply: Any) -> None:  # noqa: ANN401 - as in `take`
        self._handshakes -= 1
        if self._handshake.done():
            return
        if isinstance(reply, ReplyError):
            self._handshake.set_exception(translated(reply))
        elif not self._handshakes:
            self._handshake.set_result(None)

    def _hold(self, entry: tuple[Run[Any], int] | None, reply: Any) -> None:  # noqa: ANN401 - as in `take`
        if entry is not None:
            self._held.append((*entry, reply))
            return
        held, self._held = self._held, []
        problem = check_waited(reply, self._settings.wait)
        for run, number, answer in held:
            if problem is None:
                run.take(number, answer)
            else:
                run.fail(problem)

    def _end(self, error: RetrySafeError) -> None:
        if self.closed:
            return
        self.closed = True
        if self._watch is not None:
            self._watch.cancel()
        if not self._handshake.done():
            self._handshake.set_exception(error)
        if not self._handshake.cancelled():
            # Else the loop complains of an exception that nobody wanted to know.
            self._handshake.exception()
        waiting = [entry[0] for entry in self._pending if entry is not None] + [run for run, _, _ in self._held]
        self._pending.clear()
        self._held.clear()
        self._outgoing.clear()
        for run in dict.fromkeys(waiting):
            run.fail(StoreUnavailable(str(error)))


async def _closing(wire: Wire) -> AsyncGenerator[None]:
    """Close a connection with its loop: before that is closed, it ends the generators that it has begun."""
    try:
        yield
    finally:
        wire.close()


def close_quietly(wire: Wire) -> None:
    """Close a connection whose loop may be closed already."""
    with suppress(RuntimeError):
        wire.close()
