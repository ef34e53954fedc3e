"""Clients that the application already has: redis-py's or valkey-py's, alone, behind Sentinel, or of a Cluster."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from retrysafe.errors import RetrySafeError
from retrysafe.stores.program import Answer, Program
from retrysafe.stores.redis.calls import Call, Introduction, Reply, Words, script
from retrysafe.stores.redis.resp import check_waited, lost, translated

T = TypeVar("T")

# By their names, which both libraries have, so that neither is needed for the other.
_UNKNOWN_SCRIPT = "NoScriptError"
# A client makes a connection for each, and refuses when there are too many: by default above a hundred.
_AT_ONCE = 50

# What the server answers and what may pass; what is no answer of the server's says nothing about what was asked.
_PASSING = frozenset(
    (
        *("ReadOnlyError", "OutOfMemoryError", "MasterDownError", "TryAgainError", "ClusterDownError"),
        *("AuthenticationError", "AuthorizationError", "NoPermissionError"),
    )
)


class Clients:
    """The transport over clients of a library.

    Args:
        make: makes the client for threads, at first use.
        make_async: makes a client for an event loop, at its first use; it may answer None, and without it threads do
            the work of event loops, too.
        owned: whether the clients are ours to close.
        waiting: the command that waits for replicas behind each write, and how many it must name; None does not wait.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        make_async: Callable[[], Any],
        *,
        owned: bool,
        waiting: Words | None = None,
    ) -> None:
        self._make, self._make_async = make, make_async
        self._owned = owned
        self._waiting = waiting
        self._door = threading.Lock()
        self._client: Any = None
        self._loops: dict[asyncio.AbstractEventLoop, asyncio.Task[Any]] = {}
        self._running: set[asyncio.Future[Any]] = set()

    def exchange(self, calls: Sequence[Call]) -> Sequence[Reply]:
        """Run scripts from any thread.

        Raises:
            StoreUnavailable: nothing is known about any of them (D4).
        """
        return _blocking(self._settled(self._threads(), calls))

    def command(self, words: Words) -> Sequence[object]:
        """Ask every primary something that is no script's."""
        client = self._threads()
        try:
            if is_cluster(client):
                answers = client.execute_command(*words, target_nodes=client.PRIMARIES)
                return list(answers.values())
            return [client.execute_command(*words)]
        except Exception as error:
            if "NoPermissionError" in _kinds(error):
                return [error]
            raise _translated(error) from error

    def introduce(self, introduction: Introduction) -> None:
        """Do nothing: these clients make their connections by themselves."""

    async def arun(self, program: Program[T]) -> T:
        """Run a program on any event loop."""
        running = asyncio.ensure_future(self._arun(program))
        # The loop itself keeps tasks weakly.
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return await asyncio.shield(running)

    def close(self) -> None:
        """Close the client for threads, if it is ours."""
        with self._door:
            client, self._client = self._client, None
        if self._owned and client is not None:
            for each in (client, *_sentinels(client)):
                each.close()

    async def aclose(self) -> None:
        """Close this event loop's client, if it is ours, and the one for threads."""
        with self._door:
            preparing = self._loops.pop(asyncio.get_running_loop(), None)
        if self._owned and preparing is not None:
            client, _ = await preparing
            for each in () if client is None else (client, *_sentinels(client)):
                await each.aclose()
        await asyncio.to_thread(self.close)

    async def _arun(self, program: Program[T]) -> T:
        client, at_once = await self._loop()
        try:
            statement = next(program)
            while True:
                calls: Sequence[Any] = statement.parameters
                if client is None:
                    replies = await asyncio.to_thread(self.exchange, calls)
                else:
                    async with at_once:
                        replies = await self._settled(client, calls)
                statement = program.send(Answer(replies))
        except StopIteration as end:
            reply: T = end.value
            return reply

    async def _settled(self, client: Any, calls: Sequence[Call]) -> list[Reply]:  # noqa: ANN401 - any library's
        """Run scripts with a client of either kind: what a blocking one answers is no less an answer."""
        try:
            replies = await self._replies(client, [_words(call) for call in calls])
            for number, reply in enumerate(replies):
                if _UNKNOWN_SCRIPT in _kinds(reply):
                    [replies[number]] = await self._replies(client, [_words(calls[number], whole=True)])
        except Exception as error:
            raise _translated(error) from error
        for reply in replies:
            if isinstance(reply, Exception):
                raise _translated(reply)
        return replies

    async def _replies(self, client: Any, commands: Sequence[Words]) -> list[Any]:  # noqa: ANN401 - as above
        if self._waiting is None and len(commands) == 1:
            return [await self._reply(client, commands[0])]
        pipeline = client.pipeline(transaction=False)
        for words in commands:
            pipeline.execute_command(*words)
        if self._waiting is None:
            replies: list[Any] = await _there(pipeline.execute(raise_on_error=False))
            return replies
        pipeline.execute_command(*self._waiting)
        *replies, waited = await _there(pipeline.execute(raise_on_error=False))
        problem = check_waited(waited, int(self._waiting[1]))
        if problem is not None:
            raise problem
        return replies

    @staticmethod
    async def _reply(client: Any, words: Words) -> Any:  # noqa: ANN401 - as above
        try:
            return await _there(client.execute_command(*words))
        except Exception as error:
            if "ResponseError" not in _kinds(error):
                raise
            return error

    def _threads(self) -> Any:  # noqa: ANN401 - as above
        client = self._client
        if client is None:
            with self._door:
                client = self._client = self._client or self._make()
        return client

    async def _loop(self) -> tuple[Any, asyncio.Semaphore]:
        """Return this event loop's client, ready for a crowd, and who of it may ask at once."""
        loop = asyncio.get_running_loop()
        with self._door:
            if loop not in self._loops:
                for closed in [each for each in self._loops if each.is_closed()]:
                    del self._loops[closed]
                self._loops[loop] = loop.create_task(_prepared(self._make_async()))
            preparing = self._loops[loop]
        try:
            return await asyncio.shield(preparing)
        except Exception as error:
            with self._door:
                if self._loops.get(loop) is preparing:
                    del self._loops[loop]
            raise _translated(error) from error


async def _prepared(client: Any) -> tuple[Any, asyncio.Semaphore]:  # noqa: ANN401 - any library's
    # Asked by many at once, a Cluster's client closes the connections on which others have just asked it the same.
    if client is not None and is_cluster(client):
        await client.initialize()
    return client, asyncio.Semaphore(_AT_ONCE)


def check_clients(client: Any, async_client: Any) -> list[str]:  # noqa: ANN401 - any library's
    """Return what is wrong with clients of the application, with the fix."""
    problems: list[str] = []
    if is_async(client):
        problems.append("client= blocks, for threads: they renew leases; give the one of asyncio as async_client=, too")
    if async_client is not None and not is_async(async_client):
        problems.append("async_client= is a client of asyncio, such as redis.asyncio.Redis")
    for name, each in (("client", client), ("async_client", async_client)):
        if each is not None and each.get_encoder().decode_responses:
            problems.append(f"{name}= decodes what it reads, and checkpoints are bytes: leave decode_responses out")
    return problems


def is_async(client: Any) -> bool:  # noqa: ANN401 - as above
    """Tell whether a client is one for event loops."""
    return inspect.iscoroutinefunction(client.execute_command)


def is_cluster(client: Any) -> bool:  # noqa: ANN401 - as above
    """Tell whether a client is one of a Cluster."""
    return any(name.endswith("Cluster") for name in _kinds(client))


def _sentinels(client: Any) -> Sequence[Any]:  # noqa: ANN401 - as above
    """Return the clients by which a client asks where its server is."""
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    found: Sequence[Any] = () if manager is None else manager.sentinels
    return found


async def _there(answer: Any) -> Any:  # noqa: ANN401 - as above
    """Return an answer, whether it is there or is to be awaited."""
    if not isinstance(answer, Awaitable):
        return answer
    return await answer  # pyright: ignore[reportUnknownVariableType] - any library's


def _blocking(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that has nothing to wait for, because its client blocks."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    coroutine.close()
    raise TypeError("a blocking client gave something to wait for")


def _words(call: Call, *, whole: bool = False) -> Words:
    known = script(call.script)
    begin = ("EVAL", known.text) if whole else ("EVALSHA", known.digest)
    return (*begin, len(call.keys), *call.keys, *call.arguments)


def _kinds(value: object) -> frozenset[str]:
    return frozenset(kind.__name__ for kind in type(value).__mro__)


def _translated(error: Exception) -> RetrySafeError:
    if isinstance(error, RetrySafeError):
        return error
    if _kinds(error) & {"MovedError", "AskError"}:
        return translated(Exception("MOVED"))
    if _kinds(error) & _PASSING or "ResponseError" not in _kinds(error):
        return lost(f"{type(error).__name__}: {error}")
    return translated(error)
