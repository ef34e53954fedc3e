import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from retrysafe.demo.process import DemoFailed, Server, Socket
from retrysafe.demo.serve import BankSettings, ServeSettings
from retrysafe.demo.wire import call

_BANK = BankSettings(seed=1, seconds=0.01, honours_keys=True)


def _run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_a_server_that_cannot_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    async def work() -> None:
        with Socket() as desk:
            nothing = ServeSettings(desk.listening.fileno())
            with pytest.raises(
                DemoFailed, match=r"did not start; its last words:\n  \| say what to serve: bank or shop"
            ):
                await Server.start(nothing, tmp_path / "log.txt")

    _run(work())


def test_a_client_that_comes_between_two_servers_is_served_by_the_next(tmp_path: Path) -> None:
    async def work() -> None:
        with Socket() as desk:
            settings = ServeSettings(desk.listening.fileno(), bank=_BANK)
            first = await Server.start(settings, tmp_path / "log.txt")
            await first.kill()
            waiting = asyncio.create_task(call(desk.address, "GET", "/ledger/C"))
            await asyncio.sleep(0)
            second = await Server.start(settings, tmp_path / "log.txt")
            assert (await waiting).body == b"[]"
            await second.stop()
            await second.stop()

    _run(work())


def test_a_server_that_ends_by_itself_ends_the_demo(tmp_path: Path) -> None:
    async def work() -> None:
        with Socket() as desk:
            server = await Server.start(ServeSettings(desk.listening.fileno(), bank=_BANK), tmp_path / "log.txt")
            ended = asyncio.create_task(server.ended())
            await server.kill()
            with pytest.raises(DemoFailed, match="ended by itself"):
                await ended

    _run(work())
