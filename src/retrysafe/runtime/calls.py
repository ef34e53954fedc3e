"""What a step's function receives, and how the functions of steps and undos are found and called."""

from __future__ import annotations

import asyncio
import inspect
import sys
import time
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import FunctionType
from typing import TYPE_CHECKING, Any

from retrysafe.protocol import effects as fx
from retrysafe.protocol.model import NoEffect
from retrysafe.protocol.steps import step_key, undo_place
from retrysafe.runtime.outgoing import outgoing
from retrysafe.runtime.values import decode_arguments, decode_value, encode_value, hints

if TYPE_CHECKING:
    from retrysafe.protocol.model import Claim
    from retrysafe.protocol.steps import Memo, Place, Trail


# A loop that is stopped while it awaits must not hold a thread for ever.
_LATE_SECONDS = 5.0


class Call:
    """The call that a step makes: give ``headers`` and ``time_left`` to the client that makes it.

    Attributes:
        key: the child key, the same in every attempt (R4); the service that is called tells repeats by it.
        operation_id: the operation.
        fence: of this attempt; a service that keeps the highest it saw can refuse an attempt that was taken over.
        attempt: counted from 1.
        undoes: for an undo: the child key of the call that it takes back; a service that sees this one first must
            refuse that one later (R7). None for a step.
    """

    __slots__ = ("_ends_at", "attempt", "fence", "key", "operation_id", "undoes")

    def __init__(self, claim: Claim, place: Place, timeout_seconds: float, *, undoes: Place | None = None) -> None:
        """Make the call of a step; its time begins to run."""
        self.key = step_key(claim.operation_id, place)
        self.operation_id = claim.operation_id
        self.fence = claim.fence
        self.attempt = claim.attempt
        self.undoes = None if undoes is None else step_key(claim.operation_id, undoes)
        self._ends_at = time.monotonic() + timeout_seconds

    @property
    def headers(self) -> dict[str, str]:
        """What an HTTP call carries: ``Idempotency-Key``, ``Idempotency-Fence``, for an undo ``Idempotency-Undoes``."""
        headers = {"Idempotency-Key": self.key, "Idempotency-Fence": str(self.fence)}
        if self.undoes is not None:
            headers["Idempotency-Undoes"] = self.undoes
        return headers

    @property
    def time_left(self) -> float:
        """Seconds until the step's time-out, at least a millisecond; give it to the client as its time-out (R6)."""
        return max(self._ends_at - time.monotonic(), 0.001)

    def __repr__(self) -> str:
        """Show what is safe to log."""
        return f"<Call {self.key} of operation {self.operation_id}, attempt {self.attempt}>"


def undo_name(undo: Callable[..., Any] | None) -> str | None:
    """Return the name under which an undo is found again in another process.

    Raises:
        ValueError: it is a closure, a lambda, a method or hidden: another process could not find it.
    """
    if undo is None:
        return None
    name = f"{undo.__module__}:{undo.__qualname__}" if isinstance(undo, FunctionType) else ""
    if not name or _find(name) is not undo:
        raise ValueError(
            f"undo {undo!r} must be a plain function of a module, because another process may have to call it"
        )
    return name


def find_undo(name: str) -> Callable[..., Any]:
    """Return the function of a stored name.

    Only in modules that the application has loaded, and only plain functions: what is stored never makes code load.

    Raises:
        LookupError: there is none.
    """
    found = _find(name)
    if found is None:
        raise LookupError(f"the undo {name} is not in this process: load the application that declares it")
    return found


def _find(name: str) -> Callable[..., Any] | None:
    module, _, path = name.partition(":")
    found: object = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, FunctionType) else None


def is_async(function: Callable[..., Any]) -> bool:
    """Tell whether calling it gives something to await."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def answer_of(run: Callable[[], Any], trail: Trail | None = None) -> fx.Gave | fx.Refused | fx.Failed:
    """Call a function of the application and say what became of it; it counts as under way until it returns."""
    try:
        with _counted(trail):
            return fx.Gave(encode_value(run()))
    except Exception as error:  # noqa: BLE001 - the flow decides what it means
        return _failure(error)


@contextmanager
def _counted(trail: Trail | None) -> Generator[None]:
    token = outgoing.set(())
    if trail is not None:
        trail.calls += 1
    try:
        yield
    finally:
        if trail is not None:
            trail.calls -= 1
        outgoing.reset(token)


async def awaited_answer_of(
    run: Callable[[], Any], *, function: Callable[..., Any], call: Call, trail: Trail | None = None
) -> fx.Gave | fx.Refused | fx.Failed:
    """Await a function of the application, at most for its call's time; a plain one runs in a thread, to its end."""
    try:
        if is_async(function):
            with _counted(trail):
                async with asyncio.timeout(call.time_left):
                    return fx.Gave(encode_value(await run()))
        return fx.Gave(encode_value(await _in_thread(run, trail)))
    except Exception as error:  # noqa: BLE001 - the flow decides what it means
        return _failure(error)


async def _in_thread(run: Callable[[], Any], trail: Trail | None) -> Any:  # noqa: ANN401 - what the function returns
    """Run in a thread; the call counts as under way until the thread has ended, whoever is cancelled (R6)."""
    future = asyncio.ensure_future(asyncio.to_thread(_without_outbox, run))
    if trail is not None:
        trail.calls += 1
        future.add_done_callback(lambda _: _returned(trail))
    return await asyncio.shield(future)


def _without_outbox(run: Callable[[], Any]) -> Any:  # noqa: ANN401 - what the function returns
    with _counted(None):
        return run()


def _returned(trail: Trail) -> None:
    trail.calls -= 1


def _failure(error: Exception) -> fx.Refused | fx.Failed:
    if isinstance(error, NoEffect):
        response = error.response
        return fx.Refused(
            None if response is None else encode_value((response.status, response.headers, response.body))
        )
    return fx.Failed(error)


class UndoCall:
    """The call of an undo, ready to be made.

    Attributes:
        function: the undo.
        call: what it receives first.
    """

    def __init__(self, claim: Claim, memo: Memo, timeout_seconds: float) -> None:
        """Find the undo of a step.

        Raises:
            LookupError: it is not in this process.
        """
        self.function = find_undo(memo.undo or "")
        self.call = Call(claim, undo_place(memo.place), timeout_seconds, undoes=memo.place)
        self._memo = memo

    def __call__(self) -> Any:  # noqa: ANN401 - what the undo returns, or something to await
        """Call ``undo(call, result, *arguments)``; ``result`` is None when the step may not have happened (R7)."""
        args = decode_arguments(self.function, self._memo.arguments, skip=2)
        return self.function(self.call, self._result(), *args)

    def _result(self) -> Any:  # noqa: ANN401 - as the undo's annotation says
        names = list(inspect.signature(self.function).parameters)
        if self._memo.value is None or len(names) < 2:
            return None
        return decode_value(self._memo.value, hints(self.function).get(names[1], Any))


def take_back(
    claim: Claim, memo: Memo, timeout_seconds: float, loop: asyncio.AbstractEventLoop | None
) -> fx.Gave | fx.Failed:
    """Call a step's undo from a thread.

    Args:
        claim: the right to undo.
        memo: of the step.
        timeout_seconds: how long the call may take if the step declared nothing.
        loop: where an ``async`` undo runs; without one it gets a loop of its own for this call.
    """
    try:
        undo = UndoCall(claim, memo, timeout_seconds)
    except LookupError as error:
        return fx.Failed(error)
    if not is_async(undo.function):
        return _given(answer_of(undo))
    awaited = awaited_answer_of(undo, function=undo.function, call=undo.call)
    return _given(_await_in_thread(awaited, loop, timeout_seconds))


def _await_in_thread(
    awaited: Coroutine[Any, Any, fx.Gave | fx.Refused | fx.Failed],
    loop: asyncio.AbstractEventLoop | None,
    timeout_seconds: float,
) -> fx.Gave | fx.Refused | fx.Failed:
    """Await on the application's loop, unless this is its own thread; else on a loop of one's own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        if loop is None or not loop.is_running():
            return asyncio.run(awaited)
        waiting = asyncio.run_coroutine_threadsafe(awaited, loop)
        try:
            return waiting.result(timeout_seconds + _LATE_SECONDS)
        except TimeoutError as error:
            waiting.cancel()
            return fx.Failed(error)
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(asyncio.run, awaited).result()


async def atake_back(claim: Claim, memo: Memo, timeout_seconds: float) -> fx.Gave | fx.Failed:
    """Call a step's undo from an event loop; see :func:`take_back`."""
    try:
        undo = UndoCall(claim, memo, timeout_seconds)
    except LookupError as error:
        return fx.Failed(error)
    return _given(await awaited_answer_of(undo, function=undo.function, call=undo.call))


def _given(answer: fx.Gave | fx.Refused | fx.Failed) -> fx.Gave | fx.Failed:
    """Take a refusal of an undo for what it says: there was no effect to take back."""
    return fx.Gave(b"null") if isinstance(answer, fx.Refused) else answer
