"""Reading a request's body whole, within a limit, and never beyond its end (S8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from retrysafe import RequestTooLarge
from retrysafe.adapters.asgi import RetrySafeMiddleware
from retrysafe.adapters.asgi.body import RequestBody, declared_length
from tests.adapters.asgi.server import Exchange, http_scope, part, run, start
from tests.adapters.guards import LIMIT, House

if TYPE_CHECKING:
    from retrysafe.adapters.asgi.types import Receive, Scope, Send

WHOLE = {
    "empty": [b""],
    "one part": [b"abc"],
    "parts": [b"a", b"", b"bc", b""],
    "at the limit": [b"12345", b"67890"],
}
TOO_LARGE = {"one part": [b"12345678901"], "last part": [b"12345", b"678901"], "first part": [b"12345678901", b"2"]}


@pytest.mark.parametrize("parts", WHOLE.values(), ids=WHOLE)
def test_a_body_is_read_to_its_end_and_not_further(parts: list[bytes]) -> None:
    """S8."""

    async def read() -> tuple[bytes | None, int]:
        exchange = Exchange(body=parts)
        body = RequestBody(exchange.receive)
        content = await body.read(10, None)
        # A server asked for more would answer only when the client goes away.
        await body.drain()
        return content, exchange.received

    assert run(read()) == (b"".join(parts), len(parts))


@pytest.mark.parametrize("parts", TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_body_beyond_the_limit_is_refused_and_can_be_drained(parts: list[bytes]) -> None:
    """S8."""

    async def read() -> int:
        exchange = Exchange(body=parts)
        body = RequestBody(exchange.receive)
        with pytest.raises(RequestTooLarge) as error:
            await body.read(10, None)
        assert error.value.limit_bytes == 10
        await body.drain()
        return exchange.received

    assert run(read()) == len(parts)


def test_a_body_that_is_declared_too_large_is_not_read() -> None:
    """S8."""

    async def read() -> int:
        exchange = Exchange()
        with pytest.raises(RequestTooLarge):
            await RequestBody(exchange.receive).read(10, 11)
        return exchange.received

    assert run(read()) == 0


@pytest.mark.parametrize("parts", [[b"abc"], [b"a", b"b", b"c"]])
def test_a_body_that_is_cut_off_is_none(parts: list[bytes]) -> None:
    """S1: nothing may be claimed."""

    async def read() -> tuple[bytes | None, int]:
        exchange = Exchange(body=parts, complete=False)
        body = RequestBody(exchange.receive)
        content = await body.read(10, None)
        await body.drain()
        return content, exchange.received

    assert run(read()) == (None, len(parts) + 1)


def test_draining_ends_after_a_megabyte() -> None:
    """An endless body does not hold an early answer."""

    async def drain() -> int:
        exchange = Exchange(body=[b"x" * 65_536] * 100)
        await RequestBody(exchange.receive).drain()
        return exchange.received

    assert run(drain()) == 16


@pytest.mark.parametrize(
    ("value", "length"),
    [(b"0", 0), (b"17", 17), (b"", None), (b"-1", None), (b"1.5", None), ("²".encode("latin-1"), None), (b"+1", None)],
)
def test_a_declared_length_is_a_number_or_nothing(value: bytes, length: int | None) -> None:
    """Servers check it; whatever they let through must not break us."""
    assert declared_length([(b"Host", b"a"), (b"Content-LENGTH", value)]) == length
    assert declared_length([]) is None


async def made(_: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send(start())
    await send(part())


def test_a_client_that_sends_half_a_request_gets_no_answer_and_claims_nothing(house: House) -> None:
    """S1."""

    async def requests() -> list[Exchange]:
        app = RetrySafeMiddleware(made, guard=house.guard)
        return [await Exchange(complete=False).through(app), await Exchange().through(app)]

    cut_off, whole = run(requests())
    assert (cut_off.sent, whole.status, whole.replayed, house.states) == ([], 201, False, ["done"])


@pytest.mark.parametrize("parts", [[b"x" * (LIMIT + 1)], [b"x" * LIMIT, b"x"], [b"x" * 600, b"x" * 600, b"x" * 600]])
def test_a_request_that_is_too_large_is_answered_though_its_client_waits(house: House, parts: list[bytes]) -> None:
    """S8: it waits for the answer, and not for us to ask for more."""

    async def refused() -> Exchange:
        return await Exchange(body=parts).through(RetrySafeMiddleware(made, guard=house.guard))

    exchange = run(refused())
    assert (exchange.status, exchange.received, house.states) == (413, len(parts), [])


@pytest.mark.parametrize("is_async", [False, True])
def test_a_principal_may_be_told_by_a_function_or_a_coroutine(is_async: bool) -> None:
    """K5."""

    async def told(_: object) -> str | None:
        return None

    house = House({"principal": told if is_async else lambda _: None})

    async def refused() -> Exchange:
        return await Exchange(body=[b"x" * 10] * 3).through(RetrySafeMiddleware(made, guard=house.guard))

    exchange = run(refused())
    assert (exchange.status, exchange.received, house.store.calls) == (401, 3, {})
    assert "principal-missing" in repr(house.told)


def test_a_scope_without_a_raw_path_has_the_same_fingerprint_each_time(house: House) -> None:
    """F2: ``raw_path`` is optional in ASGI."""

    async def requests() -> list[bool]:
        app = RetrySafeMiddleware(made, guard=house.guard)
        exchanges = [await Exchange(http_scope("/once/café", raw_path=None)).through(app) for _ in range(2)]
        scope = http_scope("/once/café")
        del scope["raw_path"]
        return [*(exchange.replayed for exchange in exchanges), (await Exchange(scope).through(app)).replayed]

    assert run(requests()) == [False, True, True]
