"""Servers that load the application and then fork."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.crash.processes import Town, gunicorn

Found = Callable[..., Town]

PRELOADING = gunicorn("sync", "--preload", "--workers", "2")


@pytest.mark.parametrize("opens_early", [False, True], ids=["opened by the workers", "opened before the fork"])
def test_each_preloaded_worker_has_an_engine_of_its_own(town: Found, *, opens_early: bool) -> None:
    """Threads and connections do not survive a fork; claims, replays and events go on in each worker (C1)."""
    shop = town(opens_early=opens_early)
    server = shop.start(PRELOADING)
    with ThreadPoolExecutor(2) as clients:
        waiting = [clients.submit(server.post, "/held", f"key-of-client-{number}") for number in range(2)]
        shop.await_effects(2)
        shop.open_gate()
        assert [reply.result().status for reply in waiting] == [201, 201]
    workers = {entry["pid"] for entry in shop.ledger}
    assert len(workers) == 2
    assert server.pid not in workers
    for _ in range(4):
        for number in range(2):
            assert server.post("/held", f"key-of-client-{number}").replayed
    assert len(shop.ledger) == 2
