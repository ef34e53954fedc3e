"""A guarded WSGI response: what is held, what passes, and what an application does (S1, S5, S7, PEP 3333)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any
from wsgiref.util import FileWrapper

import pytest

from retrysafe import Final, NoEffect, Response, current_operation
from retrysafe.adapters.wsgi import RetrySafeMiddleware
from retrysafe.runtime import events
from retrysafe.testing import faults
from tests.adapters.guards import LIMIT, House
from tests.adapters.wsgi.server import Exchange, environ_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from retrysafe.adapters.wsgi.types import App, Environ, StartResponse

PLAIN = [("Content-Type", "text/plain"), ("X-Twice", "1"), ("X-Twice", "2")]
PATHS = pytest.mark.parametrize("path", ["/once/1", "/again/1"])


class Closing:
    """An iterable whose ``close`` is noted."""

    def __init__(self, parts: Iterable[bytes], order: list[str]) -> None:
        self._parts = parts
        self._order = order

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._parts)

    def close(self) -> None:
        self._order.append("application closed")


def requests(house: House, app: App, count: int = 2, path: str = "/once/1", **how: Any) -> list[Exchange]:
    """Send one request some times through a guarded application."""
    guarded = RetrySafeMiddleware(app, guard=house.guard)
    return [Exchange(environ_of(path), **how).through(guarded) for _ in range(count)]


def listed(_: Environ, start_response: StartResponse) -> list[bytes]:
    start_response("201 Created", list(PLAIN))
    return [b"ma", b"de"]


def written(_: Environ, start_response: StartResponse) -> list[bytes]:
    write = start_response("201 Created", list(PLAIN))
    write(b"ma")
    write(b"d")
    return [b"e"]


def declared(_: Environ, start_response: StartResponse) -> Iterator[bytes]:
    start_response("201 Created", [*PLAIN, ("Content-Length", "4")])
    yield b"ma"
    yield b"de"


def fails(message: str) -> None:
    raise LookupError(message)


def replaced(_: Environ, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/html")])
    try:
        fails("before anything has left")
    except LookupError:
        start_response("201 Created", list(PLAIN), sys.exc_info())
    return [b"made"]


@pytest.mark.parametrize("app", [listed, written, declared, replaced])
def test_a_whole_response_is_recorded_and_sent_as_it_is(house: House, app: App) -> None:
    """S1, S2: a list, the ``write`` callable, a generator with a length that starts late, and a second start."""
    first, retry = requests(house, app)
    assert (first.status_line, first.content, first.headers[:3]) == ("201 Created", b"made", PLAIN)
    assert (retry.status, retry.content, retry.replayed) == (201, b"made", True)
    assert [pair for pair in retry.headers if pair[0] == "X-Twice"] == PLAIN[1:]
    assert house.store.calls["record"] == 1


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_a_response_without_a_body_is_kept_whatever_it_iterates_over(house: House, status: str) -> None:
    """S2: frameworks wrap the empty body, and give no length."""

    def app(_: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response(status, [])
        return Closing((), [])

    first, retry = requests(house, app, strict=False)
    assert (first.status_line, first.content) == (status, b"")
    assert (retry.status_line, retry.content, retry.replayed) == (status, b"", True)


def generated(_: Environ, start_response: StartResponse) -> Iterator[bytes]:
    start_response("201 Created", list(PLAIN))
    yield b"ma"
    yield b"de"


def started_before(_: Environ, start_response: StartResponse) -> Iterator[bytes]:
    start_response("201 Created", list(PLAIN))
    return iter([b"ma", b"de"])


def written_and_generated(_: Environ, start_response: StartResponse) -> Iterator[bytes]:
    start_response("201 Created", list(PLAIN))(b"ma")
    return iter([b"de"])


def long(_: Environ, start_response: StartResponse) -> Iterator[bytes]:
    start_response("201 Created", [*PLAIN, ("Content-Length", str(LIMIT + 4))])
    yield b"ma"
    yield b"d" + b"e" * (LIMIT + 1)


def long_list(_: Environ, start_response: StartResponse) -> list[bytes]:
    start_response("201 Created", list(PLAIN))
    return [b"ma", b"d", b"e" * LIMIT]


def empty(_: Environ, start_response: StartResponse) -> Iterator[bytes]:
    start_response("201 Created", list(PLAIN))
    yield from ()


@pytest.mark.parametrize("app", [generated, started_before, written_and_generated, long, long_list])
def test_any_other_response_is_sent_as_it_is_and_not_kept(house: House, app: App) -> None:
    """S5."""
    first, retry = requests(house, app)
    assert (first.status_line, first.headers[:3], first.content[:3]) == ("201 Created", PLAIN, b"mad")
    assert (retry.status, retry.code, house.states) == (409, "completed-not-replayable", ["done"])


def test_an_empty_stream_is_done_once(house: House) -> None:
    """S5: kept or not."""
    first, retry = requests(house, empty)
    assert (first.status, first.content, house.states, house.store.calls["claim"]) == (201, b"", ["done"], 2)
    assert retry.replayed or retry.code == "completed-not-replayable"


def test_a_stream_leaves_as_it_comes(house: House) -> None:
    """S5: and it is durable when it begins and before it ends."""
    order: list[str] = []

    def app(_: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("201 Created", list(PLAIN))
        for number in range(3):
            order.append(f"make {number}, {house.states[0]}")
            yield b"%d" % number
        order.append(f"end, {house.states[0]}")

    response = RetrySafeMiddleware(app, guard=house.guard)(environ_of(), Exchange().start_response)
    for part in response:
        order.append(f"send {part.decode()}")  # noqa: PERF401 - while the response is made, not afterwards
    order.append(house.states[0])
    # The first part is asked for before anything is sent: a generator calls start_response only then.
    assert order == [
        "make 0, running",
        "send 0",
        "make 1, streaming",
        "send 1",
        "make 2, streaming",
        "send 2",
        "end, streaming",
        "done",
    ]


@pytest.mark.parametrize("gone", [False, True])
def test_a_stream_is_done_before_its_last_byte_leaves(house: House, gone: bool) -> None:
    """S5: a client that counts bytes knows the end; whatever the application does afterwards, it still does."""
    order: list[str] = []

    def app(_: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("201 Created", [*PLAIN, ("Content-Length", str(2 * LIMIT))])
        yield b"x" * LIMIT
        yield b"x" * LIMIT
        order.append("afterwards")

    response: Any = RetrySafeMiddleware(app, guard=house.guard)(environ_of(), Exchange().start_response)
    assert (len(next(response)), house.states) == (LIMIT, ["streaming"])
    assert (len(next(response)), house.states, order) == (LIMIT, ["done"], [])
    if not gone:
        assert list(response) == []
    response.close()
    assert (order, house.store.calls["record"]) == (["afterwards"], 1)


def test_a_file_is_read_by_the_server_and_closed_once(house: House, tmp_path: Path) -> None:
    """S5: ``wsgi.file_wrapper``."""
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100_000)
    opened: list[Any] = []

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", list(PLAIN))
        opened.append(file.open("rb"))
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](opened[-1])
        return wrapped

    guarded = RetrySafeMiddleware(app, guard=house.guard)
    more = {"wsgi.file_wrapper": FileWrapper}
    first = Exchange({**environ_of(), **more}).through(guarded)
    retry = Exchange({**environ_of(), **more}).through(guarded)
    assert (len(first.content), retry.code, len(opened), opened[0].closed) == (
        100_000,
        "completed-not-replayable",
        1,
        True,
    )


@pytest.mark.parametrize("streams", [False, True])
@PATHS
def test_an_application_is_closed_once_and_after_the_response_was_sent(house: House, path: str, streams: bool) -> None:
    """S7: where frameworks do their background work."""

    def app(_: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("201 Created", [*PLAIN, *([] if streams else [("Content-Length", "4")])])
        return Closing([b"ma", b"de"], exchange.order)

    exchange = Exchange(environ_of(path))
    exchange.through(RetrySafeMiddleware(app, guard=house.guard))
    assert exchange.order == ["start", "part", "part", "close", "application closed"]
    retry = Exchange(environ_of(path)).through(RetrySafeMiddleware(app, guard=house.guard))
    assert (retry.status in {201, 409}, exchange.order.count("application closed")) == (True, 1)


@pytest.mark.parametrize("gone_after", [0, 1, 2])
@PATHS
def test_a_client_that_goes_does_not_end_a_stream(house: House, path: str, gone_after: int) -> None:
    """S1, S5: it is made to its end, then closed."""
    order: list[str] = []

    def parts() -> Iterator[bytes]:
        for number in range(4):
            order.append(f"part {number}")
            yield b"x"

    def app(_: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("201 Created", list(PLAIN))
        return Closing(parts(), order)

    (first,) = requests(house, app, 1, path, gone_after=gone_after)
    (retry,) = requests(house, app, 1, path)
    assert len(first.parts) == gone_after
    assert order == ["part 0", "part 1", "part 2", "part 3", "application closed"]
    assert (retry.code, house.states) == ("completed-not-replayable", ["done"])


def failing(how: str) -> Callable[[], None]:
    def fail() -> None:
        if how == "no effect":
            raise NoEffect(Response(409, "nothing"))
        if how == "final":
            raise Final(Response(402, "final"))
        fails("secret-detail")

    return fail


def fails_when_called(fail: Callable[[], None]) -> App:
    def app(_: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("201 Created", list(PLAIN))
        fail()
        return []

    return app


def fails_when_iterated(fail: Callable[[], None]) -> App:
    def app(_: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("201 Created", [*PLAIN, ("Content-Length", "4")])
        yield b"ma"
        fail()

    return app


def fails_before_its_first_part(fail: Callable[[], None]) -> App:
    def app(_: Environ, start_response: StartResponse) -> Iterator[bytes]:
        fail()
        start_response("201 Created", list(PLAIN))
        yield b"made"

    return app


WHERE = pytest.mark.parametrize("make", [fails_when_called, fails_when_iterated, fails_before_its_first_part])


@WHERE
def test_an_exception_of_a_once_operation_is_its_outcome(
    house: House, make: Callable[[Callable[[], None]], App]
) -> None:
    """Mode ``once``: told where the server would have shown it, recorded, and never run again."""
    first, retry = requests(house, make(failing("error")))
    assert (first.status, first.code, retry.status, retry.content, retry.replayed) == (
        500,
        "operation-failed",
        500,
        first.content,
        True,
    )
    assert "LookupError" in first.errors
    assert "secret-detail" not in first.content.decode() + repr(house.told)
    assert len(house.events(events.HandlerFailed)) == 1


@WHERE
def test_an_exception_of_a_repeatable_operation_is_the_servers(
    house: House, make: Callable[[Callable[[], None]], App]
) -> None:
    """Mode ``again``: the next retry runs."""
    with pytest.raises(LookupError):
        requests(house, make(failing("error")), 1, "/again/1")
    assert house.states == ["released"]
    assert [exchange.status for exchange in requests(house, listed, 2, "/again/1")] == [201, 201]


@WHERE
@PATHS
def test_declared_exceptions_are_answers(house: House, path: str, make: Callable[[Callable[[], None]], App]) -> None:
    """Any mode: ``NoEffect`` frees the key, ``Final`` is the outcome."""
    assert [exchange.status for exchange in requests(house, make(failing("no effect")), 2, path)] == [409, 409]
    final = requests(house, make(failing("final")), 2, path)
    assert [(exchange.status, exchange.replayed) for exchange in final] == [(402, False), (402, True)]
    assert [exchange.errors for exchange in final] == ["", ""]


def test_what_an_application_returned_is_closed_when_it_failed(house: House) -> None:
    """PEP 3333: whatever happened."""
    order: list[str] = []

    def parts() -> Iterator[bytes]:
        yield b"x"
        raise LookupError

    def app(_: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("201 Created", [*PLAIN, ("Content-Length", "4")])
        return Closing(parts(), order)

    requests(house, app, 1)
    assert order == ["application closed"]
    with pytest.raises(LookupError):
        Exchange(environ_of("/again/1", key="another")).through(RetrySafeMiddleware(app, guard=house.guard))
    assert order == ["application closed"] * 2


@pytest.mark.parametrize(("path", "state"), [("/once/1", "done"), ("/again/1", "streaming")])
def test_an_exception_in_the_middle_of_a_stream_is_the_servers(house: House, path: str, state: str) -> None:
    """S5: what has left has left; in mode ``again`` the lease ends at once, so that the next retry runs."""

    def app(_: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("201 Created", list(PLAIN))
        yield b"x"
        raise LookupError

    exchange = Exchange(environ_of(path))
    with pytest.raises(LookupError):
        exchange.through(RetrySafeMiddleware(app, guard=house.guard))
    assert (exchange.content, house.states) == (b"x", [state])
    assert house.guard.local_engine().deferred.drain(20)
    (retry,) = requests(house, listed, 1, path)
    assert retry.status == (409 if path == "/once/1" else 201)


def test_an_application_may_not_replace_what_has_left(house: House) -> None:
    """PEP 3333: with ``exc_info``, once the stream has begun, ``start_response`` raises what it is told."""

    def app(_: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("201 Created", list(PLAIN))
        yield b"half a page"
        try:
            fails("in the middle")
        except LookupError:
            start_response("500 Oops", [("Content-Type", "text/plain")], sys.exc_info())
        yield b"an error page in the middle of another"

    exchange = Exchange()
    with pytest.raises(LookupError, match="in the middle"):
        exchange.through(RetrySafeMiddleware(app, guard=house.guard))
    assert (exchange.status, exchange.content) == (201, b"half a page")


def never_started(_: Environ, __: StartResponse) -> list[bytes]:
    return [b"made"]


def never_started_generator(_: Environ, __: StartResponse) -> Iterator[bytes]:
    yield b"made"


def returned_nothing(_: Environ, start_response: StartResponse) -> Any:
    start_response("201 Created", list(PLAIN))


def started_twice(_: Environ, start_response: StartResponse) -> list[bytes]:
    start_response("201 Created", list(PLAIN))
    start_response("200 OK", list(PLAIN))
    return [b"made"]


@pytest.mark.parametrize("app", [never_started, never_started_generator, returned_nothing, started_twice])
def test_an_application_that_breaks_the_protocol_has_failed(house: House, app: App) -> None:
    """Mode ``once``: whatever it did, it is not done again."""
    first, retry = requests(house, app)
    assert (first.status, first.code, retry.status, retry.replayed) == (500, "operation-failed", 500, True)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_thread_that_is_ended_in_the_middle_is_a_crash(house: House, error: type[BaseException]) -> None:
    """C7: nothing is written; the claim is handed over when the process goes down."""

    def app(_: Environ, __: StartResponse) -> list[bytes]:
        raise error

    guarded = RetrySafeMiddleware(app, guard=house.guard)
    with pytest.raises(error):
        Exchange().through(guarded)
    assert house.states == ["running"]
    (retry,) = requests(house, listed, 1)
    assert (retry.status, retry.code) == (409, "in-progress")
    guarded._at_exit()
    (retry,) = requests(house, listed, 1)
    assert (retry.status, retry.code, house.states) == (409, "outcome-unknown", ["parked"])


def test_the_operation_is_known_where_it_runs(house: House) -> None:
    """K9: also in a stream and in ``close``, but not around it."""
    seen: dict[str, bool] = {}

    def look(where: str) -> None:
        seen[where] = current_operation() is not None

    class Looking(Closing):
        def close(self) -> None:
            look("close")

    def parts() -> Iterator[bytes]:
        look("first part")
        yield b"x"
        look("second part")
        yield b"x"

    def app(_: Environ, start_response: StartResponse) -> Iterable[bytes]:
        look("application")
        start_response("201 Created", list(PLAIN))
        return Looking(parts(), [])

    look("before")
    response: Any = RetrySafeMiddleware(app, guard=house.guard)(environ_of(), Exchange().start_response)
    look("returned")
    for _ in response:
        look("between")
    response.close()
    look("afterwards")
    assert {where for where, known in seen.items() if known} == {"application", "first part", "second part", "close"}


def test_a_stream_that_could_not_be_recorded_says_so(house: House) -> None:
    """D2, S5: and is recorded later."""
    house.guard.engine()
    house.store.plan(faults.fail("begin_stream"))
    first, retry = requests(house, generated)
    assert (first.content, ("idempotency-stored", "false") in first.headers) == (b"made", True)
    assert retry.code == "completed-not-replayable"


def test_an_unprotected_stream_says_so(house: House) -> None:
    """D1, S5."""
    house.store.plan(faults.fail("claim"))
    (first,) = requests(house, generated, 1, "/open/1")
    assert (first.content, ("idempotency-status", "unprotected") in first.headers) == (b"made", True)
    assert ("idempotency-stored", "false") not in first.headers


def test_an_unusual_status_has_a_reason(house: House) -> None:
    """PEP 3333: a replay's status line has one, even where nobody knows it."""

    def app(_: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("299 Quite Fine", [("Content-Type", "text/plain")])
        return [b""]

    first, retry = requests(house, app)
    assert (first.status_line, retry.status, retry.status_line[:4]) == ("299 Quite Fine", 299, "299 ")
