"""A guarded response, message by message: what is held, what passes, and what goes wrong (S1, S5, S7)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from retrysafe import Final, NoEffect, Response, current_operation
from retrysafe.adapters.asgi import RetrySafeMiddleware
from retrysafe.runtime import events
from tests.adapters.asgi.server import Exchange, http_scope, part, run, start
from tests.adapters.guards import LIMIT, House

if TYPE_CHECKING:
    from collections.abc import Iterable

    from retrysafe import HttpRequest
    from retrysafe.adapters.asgi.types import App, Message, Receive, Scope, Send


def sending(*messages: Message) -> App:
    """An application that reads its request, and sends messages."""

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        for message in messages:
            await send(dict(message))

    return app


def requests(house: House, app: App, count: int = 2, path: str = "/once/1") -> list[Exchange]:
    """Send one request some times through a guarded application."""

    async def each() -> list[Exchange]:
        guarded = RetrySafeMiddleware(app, guard=house.guard)
        return [await Exchange(http_scope(path)).through(guarded) for _ in range(count)]

    return run(each())


def code_of(exchange: Exchange) -> bytes:
    return exchange.content.partition(b'"code":"')[2].partition(b'"')[0]


@pytest.mark.parametrize(
    "messages",
    [
        [start(), part()],
        [start(), {"type": "http.response.body", "body": b"made"}],
        [start(), {"type": "http.response.body"}],
        [{"type": "http.response.start", "status": 201}, part()],
        [start(headers=[(b"content-length", b"4")]), part(b"ma", more=True), part(b"de")],
        [start(headers=[(b"content-length", b"4")]), part(b"made", more=True), part(b"")],
        [start(headers=((bytearray(b"X-One"), memoryview(b"1")),)), part()],  # type: ignore[arg-type]
    ],
    ids=["one part", "no more_body", "no body", "no headers", "declared parts", "empty end", "other byte strings"],
)
def test_a_whole_response_is_held_recorded_and_sent_as_it_is(house: House, messages: list[Message]) -> None:
    """S1, S2."""
    first, retry = requests(house, sending(*messages))
    assert first.sent == messages
    assert (retry.status, retry.content, retry.replayed) == (201, first.content, True)
    assert house.store.calls["record"] == 1


@pytest.mark.parametrize(
    "messages",
    [
        [start(), part(b"ma", more=True), part(b"de")],
        [start(headers=[(b"content-length", b"4000")]), part(b"x" * 4000)],
        [start(headers=[(b"content-length", b"4")]), part(b"x" * (LIMIT + 1), more=True), part(b"x")],
        [start(), part(b"x" * (LIMIT + 1))],
        [start(), {"type": "http.response.pathsend", "path": "/tmp/file"}],  # noqa: S108 - nobody opens it
        [start(), {"type": "http.response.zerocopysend", "file": 7}],
        [start(trailers=True), part(), {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]}],
    ],
    ids=["no length", "long", "longer than declared", "long without length", "path", "file", "trailers"],
)
def test_any_other_response_is_sent_as_it_is_and_not_kept(house: House, messages: list[Message]) -> None:
    """S5."""
    first, retry = requests(house, sending(*messages))
    assert first.sent == messages
    assert (retry.status, code_of(retry), house.states) == (409, b"completed-not-replayable", ["done"])


def test_trailers_may_come_in_parts(house: House) -> None:
    """S5: the response ends with the last of them."""
    more = {"type": "http.response.trailers", "headers": [(b"x-a", b"1")], "more_trailers": True}
    last = {"type": "http.response.trailers", "headers": [(b"x-b", b"2")]}
    messages = [start(trailers=True), part(b"a", more=True), part(b"b"), more, last]
    states: list[list[str]] = []

    async def app(_: Scope, __: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
            states.append(house.states)

    (first,) = requests(house, app, 1)
    assert first.sent == messages
    assert states == [["running"], *[["streaming"]] * 3, ["done"]]


def test_a_stream_is_done_before_its_last_byte_leaves(house: House) -> None:
    """S5: a client that counts bytes knows the end before the application has said that it is one."""
    states: list[tuple[int, str]] = []

    class Watched(Exchange):
        async def send(self, message: Message) -> None:
            await super().send(message)
            states.append((len(self.content), house.states[0]))

    size = b"%d" % (2 * LIMIT)
    messages = [
        start(headers=[(b"content-length", size)]),
        *[part(b"x" * LIMIT, more=True)] * 2,
        part(b"", more=True),
        part(b""),
    ]

    async def one() -> Exchange:
        return await Watched().through(RetrySafeMiddleware(sending(*messages), guard=house.guard))

    assert run(one()).sent == messages
    ends = [(0, "streaming"), (LIMIT, "streaming"), *[(2 * LIMIT, "done")] * 3]
    assert states == ends
    assert house.store.calls["record"] == 1


def test_an_exception_after_the_last_byte_of_a_stream_changes_nothing(house: House) -> None:
    """S5: the client has all of it, so that a repeatable operation is not run again either."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await sending(start(headers=[(b"content-length", b"4000")]), part(b"x" * 4000, more=True))(scope, receive, send)
        raise LookupError

    async def twice() -> Exchange:
        guarded = RetrySafeMiddleware(app, guard=house.guard)
        with pytest.raises(LookupError):
            await Exchange(http_scope("/again/1")).through(guarded)
        return await Exchange(http_scope("/again/1")).through(guarded)

    assert (code_of(run(twice())), house.states) == (b"completed-not-replayable", ["done"])


def test_what_is_no_part_of_the_response_passes_at_once(house: House) -> None:
    """Early hints help only if they are early; they are not recorded."""
    hint = {"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]}
    order: list[str] = []

    async def app(_: Scope, __: Receive, send: Send) -> None:
        for message in (hint, start(), part()):
            order.append(f"says {message['type']}")
            await send(message)

    class Noting(Exchange):
        async def send(self, message: Message) -> None:
            order.append(f"hears {message['type']}")
            await super().send(message)

    async def one() -> Exchange:
        return await Noting().through(RetrySafeMiddleware(app, guard=house.guard))

    exchange = run(one())
    assert (order[:3], exchange.status) == (
        ["says http.response.early_hint", "hears http.response.early_hint", "says http.response.start"],
        201,
    )


@pytest.mark.parametrize(("error", "heard"), [(OSError, False), (ValueError, True)])
def test_a_server_that_knows_no_hints_tells_the_application(house: House, error: type[Exception], heard: bool) -> None:
    """As it does without a guard; but a client that has gone is not the application's affair (S1)."""
    told: list[type[Exception]] = []

    async def app(_: Scope, __: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.early_hint", "links": []})
        except (OSError, ValueError) as raised:
            told.append(type(raised))
        await send(start())
        await send(part())

    class Old(Exchange):
        async def send(self, message: Message) -> None:
            if message["type"] == "http.response.early_hint":
                raise error
            await super().send(message)

    async def one() -> Exchange:
        return await Old().through(RetrySafeMiddleware(app, guard=house.guard))

    exchange = run(one())
    assert told == ([error] if heard else [])
    assert (exchange.sent != [], house.states) == (heard, ["done"])


@pytest.mark.parametrize("path", ["/once/1", "/again/1"])
def test_nothing_is_sent_before_the_outcome_is_durable(house: House, path: str) -> None:
    """S1."""
    states: list[list[str]] = []

    class Watched(Exchange):
        async def send(self, message: Message) -> None:
            states.append(house.states)
            await super().send(message)

    async def one() -> None:
        await Watched(http_scope(path)).through(RetrySafeMiddleware(sending(start(), part()), guard=house.guard))

    run(one())
    assert states == [["done"], ["done"]]


@pytest.mark.parametrize("messages", [[], [start()], [start(), part(more=True)]], ids=["nothing", "start", "part"])
def test_an_application_that_never_ends_its_response_has_failed(house: House, messages: list[Message]) -> None:
    """Mode ``once``: whatever it did, it is not done again."""

    async def twice() -> list[Exchange]:
        app = RetrySafeMiddleware(sending(*messages), guard=house.guard)
        exchanges = [Exchange(), Exchange()]
        with pytest.raises(RuntimeError, match="without completing"):
            await exchanges[0].through(app)
        await exchanges[1].through(app)
        return exchanges

    first, retry = run(twice())
    if len(messages) == 2:
        # The client has seen the beginning; what it has not seen is not invented.
        assert (first.sent, retry.status, code_of(retry)) == (messages, 409, b"completed-not-replayable")
    else:
        assert (first.status, code_of(first), retry.status, retry.replayed) == (500, b"operation-failed", 500, True)
        assert retry.content == first.content


def test_a_repeatable_application_that_never_ends_its_response_is_free(house: House) -> None:
    """Mode ``again``."""

    async def twice() -> Exchange:
        exchange = Exchange(http_scope("/again/1"))
        with pytest.raises(RuntimeError, match="without completing"):
            await exchange.through(RetrySafeMiddleware(sending(), guard=house.guard))
        assert (exchange.sent, house.states) == ([], ["released"])
        return await Exchange(http_scope("/again/1")).through(
            RetrySafeMiddleware(sending(start(), part()), guard=house.guard)
        )

    assert (run(twice()).status, house.states) == (201, ["done"])


def test_what_an_application_sends_after_its_end_is_dropped(house: House) -> None:
    """It neither reaches the client nor changes the outcome."""
    first, retry = requests(house, sending(start(), part(), part(b"more"), start(500), part(b"again")))
    assert first.sent == [start(), part()]
    assert (retry.status, retry.content) == (201, b"made")


def test_a_body_before_its_start_is_the_applications_fault(house: House) -> None:
    """It is told as by any server, and the operation is not run again."""

    async def one() -> None:
        exchange = Exchange()
        with pytest.raises((AssertionError, RuntimeError)):
            await exchange.through(RetrySafeMiddleware(sending(part()), guard=house.guard))

    run(one())
    (retry,) = requests(house, sending(start(), part()), 1)
    assert (retry.status, house.states) == (500, ["done"])


def test_an_application_hears_of_the_end_only_after_its_response(house: House) -> None:
    """S1: as from a server that is asked for more than the body."""
    order: list[str] = []

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        waiting = asyncio.create_task(_listen(receive, order))
        for _turn in range(5):
            await asyncio.sleep(0)
        order.append("answers")
        await send(start())
        await send(part())
        await waiting

    requests(house, app, 1)
    assert order == ["answers", "http.disconnect"]


async def _listen(receive: Receive, order: list[str]) -> None:
    order.append((await receive())["type"])


def test_asking_for_the_end_may_be_given_up(house: House) -> None:
    """As ``request.is_disconnected()`` does."""

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        for _turn in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(receive(), 0.001)
        await send(start())
        await send(part())

    assert [exchange.status for exchange in requests(house, app)] == [201, 201]


@pytest.mark.parametrize("error", [OSError, ConnectionResetError, BrokenPipeError])
@pytest.mark.parametrize("gone_after", [0, 1, 2])
def test_a_client_that_has_gone_changes_nothing(house: House, error: type[Exception], gone_after: int) -> None:
    """S1: a server raises ``OSError`` from ``send`` (ASGI 2.4)."""

    async def twice() -> list[Exchange]:
        app = RetrySafeMiddleware(sending(start(), part(b"a", more=True), part(b"b")), guard=house.guard)
        first = Exchange(gone_after=gone_after, error=error)
        await first.through(app)
        return [first, await Exchange().through(app)]

    first, retry = run(twice())
    assert len(first.sent) == gone_after
    assert (code_of(retry), house.states, house.store.calls["claim"]) == (b"completed-not-replayable", ["done"], 2)


def test_a_server_that_fails_in_another_way_is_heard(house: House) -> None:
    """Its fault is not hidden; the outcome was durable before."""

    async def twice() -> Exchange:
        app = RetrySafeMiddleware(sending(start(), part()), guard=house.guard)
        with pytest.raises(LookupError):
            await Exchange(gone_after=0, error=LookupError).through(app)
        return await Exchange().through(app)

    retry = run(twice())
    assert (retry.status, retry.replayed) == (201, True)


def test_a_server_that_fails_in_the_middle_of_a_stream_is_heard_at_its_end(house: House) -> None:
    """S1: the operation goes on first, so that a repeatable one is not run again."""
    order: list[str] = []

    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send(start())
        for number in range(3):
            await send(part(b"x", more=True))
            order.append(f"part {number}")
        await send(part(b""))

    async def twice() -> Exchange:
        guarded = RetrySafeMiddleware(app, guard=house.guard)
        with pytest.raises(LookupError):
            await Exchange(http_scope("/again/1"), gone_after=2, error=LookupError).through(guarded)
        return await Exchange(http_scope("/again/1")).through(guarded)

    retry = run(twice())
    assert (code_of(retry), order) == (b"completed-not-replayable", ["part 0", "part 1", "part 2"])


def test_a_replay_that_a_server_does_not_take_is_heard(house: House) -> None:
    """It is not hidden either."""

    async def twice() -> None:
        guarded = RetrySafeMiddleware(sending(start(), part()), guard=house.guard)
        await Exchange().through(guarded)
        with pytest.raises(LookupError):
            await Exchange(gone_after=0, error=LookupError).through(guarded)

    run(twice())


def test_the_operation_is_known_where_it_runs_and_nowhere_else(house: House) -> None:
    """K9: in the application, its tasks and its threads; not in the server's ``send``, which begins other requests."""
    seen: dict[str, bool] = {}

    def look(where: str) -> None:
        seen[where] = current_operation() is not None

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        look("application")
        await asyncio.to_thread(look, "thread")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_respond(send))
        look("after the response")

    async def _respond(send: Send) -> None:
        look("task")
        await send(start())
        await send(part(more=True))
        look("between two parts")
        await send(part())

    class Server(Exchange):
        async def send(self, message: Message) -> None:
            look(f"server: {message['type']}")
            await super().send(message)

    async def one() -> None:
        look("before")
        await Server().through(RetrySafeMiddleware(app, guard=house.guard))
        look("afterwards")

    run(one())
    inside = ("application", "thread", "task", "between two parts", "after the response")
    assert {where for where, known in seen.items() if known} == set(inside)


def test_a_request_that_a_server_begins_inside_send_is_guarded_by_itself(house: House) -> None:
    """K9, C1: pipelined requests are begun there; joined to the one before, a retry would run again."""
    runs: list[int] = []
    later: list[asyncio.Task[Exchange]] = []

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        runs.append(1)
        await send(start())
        await send(part())

    guarded = RetrySafeMiddleware(app, guard=house.guard)

    class Pipelining(Exchange):
        async def send(self, message: Message) -> None:
            await super().send(message)
            if self.finished:
                later.append(asyncio.create_task(Exchange().through(guarded)))

    async def one() -> Exchange:
        await Pipelining().through(guarded)
        return await later[0]

    retry = run(one())
    assert (retry.status, retry.replayed, len(runs)) == (201, True, 1)


def test_work_after_the_response_is_done_though_it_fails(house: House) -> None:
    """S7: the exception reaches the server, and changes nothing else."""

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(start())
        await send(part())
        raise LookupError("in the background")

    async def twice() -> list[Exchange]:
        guarded = RetrySafeMiddleware(app, guard=house.guard)
        first = Exchange()
        with pytest.raises(LookupError):
            await first.through(guarded)
        return [first, await Exchange().through(guarded)]

    first, retry = run(twice())
    assert (first.content, retry.content, retry.replayed) == (b"made", b"made", True)


@pytest.mark.parametrize("path", ["/once/1", "/again/1"])
@pytest.mark.parametrize(
    ("error", "status"),
    [(NoEffect(Response(409)), 409), (Final(Response(402)), 402)],
    ids=["no effect", "final"],
)
def test_declared_exceptions_are_answers_and_reach_no_server(
    house: House, path: str, error: Exception, status: int
) -> None:
    """Any mode."""

    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send(start())
        raise error

    exchanges = requests(house, app, 2, path)
    assert [exchange.status for exchange in exchanges] == [status, status]
    assert [exchange.replayed for exchange in exchanges] == [False, isinstance(error, Final)]
    assert house.events(events.HandlerFailed) == []


@pytest.mark.parametrize("messages", [(), (start(),), (start(), part(more=True))], ids=["before", "start", "stream"])
def test_an_undeclared_exception_is_told_and_reaches_the_server(house: House, messages: Iterable[Message]) -> None:
    """So that its traceback is logged where it always is."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await sending(*messages)(scope, receive, send)
        raise LookupError("secret-detail")

    async def one() -> None:
        with pytest.raises(LookupError):
            await Exchange().through(RetrySafeMiddleware(app, guard=house.guard))

    run(one())
    assert "LookupError" in repr(house.events(events.HandlerFailed))
    assert "secret-detail" not in repr(house.told)


def test_a_principals_callable_may_keep_what_it_was_given(house: House) -> None:
    """It is a value: hashed, compared, and the same afterwards; also where a server gives headers as lists."""
    kept: list[HttpRequest] = []

    def principal(request: HttpRequest) -> str:
        kept.append(request)
        return "alice"

    guard = house.another_guard(principal=principal)
    app = RetrySafeMiddleware(sending(start(headers=[(b"content-length", b"4")]), part()), guard=guard)
    scope = http_scope()
    scope["headers"] = [list(pair) for pair in scope["headers"]]

    async def each() -> Exchange:
        return await Exchange(scope, body=[b"{}"]).through(app)

    assert run(each()).status == 201
    (request,) = kept
    assert request.body == b""
    assert hash(request) == hash(request)
    assert request.header("Idempotency-Key") == "k"
    guard.close()
