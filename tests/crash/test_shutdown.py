"""Servers that are asked to stop while operations run."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from signal import SIGQUIT, SIGTERM

import pytest

from retrysafe import State
from retrysafe.protocol.states import FINAL
from tests.crash.processes import HYPERCORN, UVICORN, Server, Town, gunicorn, until
from tests.servers.wire import Reply, Truncated

Found = Callable[..., Town]

IMPATIENT = (*UVICORN[:-1], "--timeout-graceful-shutdown", "1", UVICORN[-1])
A_LONG_LEASE = 300.0
"""A test that waited for it to end would fail."""

GRACEFUL = {
    "uvicorn": UVICORN,
    "hypercorn": HYPERCORN,
    "gunicorn-sync": gunicorn(),
    "gunicorn-gthread": gunicorn("gthread", "--threads", "4"),
}


def in_flight(shop: Town, server: Server, path: str, client: ThreadPoolExecutor) -> "Future[Reply]":
    """Begin a request whose operation is held behind its effect."""
    waiting = client.submit(server.post, path)
    shop.await_effects(1)
    return waiting


@pytest.mark.parametrize("command", GRACEFUL.values(), ids=list(GRACEFUL))
def test_what_can_be_finished_is_finished_and_replayed_by_the_next_process(town: Found, command: Sequence[str]) -> None:
    """SIGTERM drains (C7)."""
    shop = town(lease_seconds=A_LONG_LEASE)
    server = shop.start(command)
    with ThreadPoolExecutor(1) as client:
        waiting = in_flight(shop, server, "/held", client)
        server.send(SIGTERM)
        shop.open_gate()
        assert waiting.result().status == 201
    server.wait()
    reply = shop.start().post("/held")
    assert (reply.status, reply.replayed, len(shop.ledger)) == (201, True, 1)


@pytest.mark.parametrize("command", [IMPATIENT, HYPERCORN], ids=["uvicorn", "hypercorn"])
@pytest.mark.parametrize(("mode", "state", "effects"), [("once", State.PARKED, 1), ("again", State.DONE, 2)])
def test_what_cannot_be_finished_is_handed_over_at_once(
    town: Found, command: Sequence[str], mode: str, state: State, effects: int
) -> None:
    """Nobody waits for the lease (C7)."""
    shop = town(mode=mode, lease_seconds=A_LONG_LEASE, drain_seconds=0.5)
    server = shop.start(command)
    second = shop.scanning()
    with ThreadPoolExecutor(1) as client:
        waiting = in_flight(shop, server, "/held", client)
        server.send(SIGTERM)
        with suppress(Truncated, OSError):
            assert waiting.result().status >= 500
        server.wait()
        met = shop.await_state(*FINAL, State.PARKED)
    assert (met.state, len(shop.ledger)) == (state, effects)
    reply = second.post("/held")
    assert reply.replayed if mode == "again" else reply.code == "outcome-unknown"
    assert len(shop.ledger) == effects


def test_a_worker_that_is_quit_in_the_middle_of_an_operation_hands_it_over(town: Found) -> None:
    """gunicorn ends its sync worker's thread inside the operation, so that it has stopped for certain (C7)."""
    shop = town(mode="again", lease_seconds=A_LONG_LEASE)
    server = shop.start(gunicorn())
    shop.scanning()
    with ThreadPoolExecutor(1) as client:
        waiting = in_flight(shop, server, "/held", client)
        server.send(SIGQUIT)
        with suppress(Truncated, OSError):
            assert waiting.result().status >= 500
        server.wait()
        assert shop.await_state(*FINAL, State.PARKED).state is State.DONE
    assert len(shop.ledger) == 2


def test_what_still_runs_in_a_thread_is_not_handed_over(town: Found) -> None:
    """The task was cancelled, but its thread may yet have its effect; its lease is the only way out (C7)."""
    shop = town(mode="again", lease_seconds=A_LONG_LEASE, drain_seconds=0.2)
    server = shop.start(IMPATIENT)
    shop.scanning()
    with ThreadPoolExecutor(1) as client:
        waiting = in_flight(shop, server, "/threaded", client)
        server.send(SIGTERM)
        with suppress(Truncated, OSError):
            waiting.result()
        until(lambda: b"Application shutdown complete" in server.log.read_bytes(), "it has drained")
        met = shop.checkpoint
        assert (met.state, met.attempt) == (State.RUNNING, 1)
        assert met.lease_remaining_seconds > A_LONG_LEASE / 2
        shop.open_gate()
        server.wait()
    assert (shop.checkpoint.attempt, len(shop.ledger)) == (1, 1)


def test_a_re_run_is_drained_and_handed_over_like_any_other(town: Found) -> None:
    """C7, R13: the operation passes from process to process until one finishes it."""
    shop = town(mode="again", lease_seconds=A_LONG_LEASE, drain_seconds=0.2)
    first = shop.start(IMPATIENT)
    with ThreadPoolExecutor(1) as client:
        waiting = in_flight(shop, first, "/held-twice", client)
        first.send(SIGTERM)
        with suppress(Truncated, OSError):
            waiting.result()
    first.wait()
    second = shop.scanning(IMPATIENT)
    shop.await_effects(2)
    second.send(SIGTERM)
    second.wait()
    third = shop.scanning()
    assert shop.await_state(*FINAL, State.PARKED).attempt == 3
    assert third.post("/held-twice").body == b'{"by": 3}'
    assert [entry["recovering"] for entry in shop.ledger] == [False, True, True]
