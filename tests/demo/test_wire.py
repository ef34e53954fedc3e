import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from retrysafe.demo.wire import Address, Answer, AnswerLost, HungUp, call

_OK = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nX-Colour: red\r\n\r\nok"
_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"


def _talk(answer: bytes, work: Callable[[Address], Coroutine[Any, Any, Answer]]) -> Answer:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for byte in answer:
            writer.write(bytes([byte]))
        writer.close()

    async def main() -> Answer:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            return await work(Address(host, port))

    return asyncio.run(main())


@pytest.mark.parametrize(("sent", "status", "body"), [(_OK, 201, b"ok"), (_CHUNKED, 200, b"abc")])
def test_an_answer_is_read_whole(sent: bytes, status: int, body: bytes) -> None:
    answer = _talk(sent, lambda address: call(address, "GET", "/"))
    assert (answer.status, answer.body) == (status, body)


def test_an_answer_that_breaks_off_is_lost() -> None:
    with pytest.raises(AnswerLost):
        _talk(_OK[:-1], lambda address: call(address, "GET", "/"))


def test_hanging_up_sees_status_and_headers() -> None:
    def hang_up(answer: Answer) -> bool:
        assert (answer.status, answer.headers["x-colour"]) == (201, "red")
        return True

    with pytest.raises(HungUp):
        _talk(_OK, lambda address: call(address, "GET", "/", hang_up=hang_up))


def test_nobody_there_is_an_answer_lost() -> None:
    with pytest.raises(AnswerLost):
        asyncio.run(call(Address("127.0.0.1", 1), "GET", "/"))
