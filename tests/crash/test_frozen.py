"""Processes that are frozen past their lease, taken over, and wake."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from signal import SIGCONT, SIGSTOP

import pytest

from retrysafe import State
from tests.crash.processes import UVICORN, WSGIREF, Server, Town, until
from tests.servers.wire import Reply

Found = Callable[..., Town]


def freeze(shop: Town, late: Server, path: str, *states: State) -> Reply:
    """Freeze a server behind its effect, wake it once the operation is in one of the states; return what it answers."""
    with ThreadPoolExecutor(1) as client:
        waiting = client.submit(late.post, path)
        shop.await_effects(1)
        late.send(SIGSTOP)
        shop.await_state(*states)
        shop.open_gate()
        late.send(SIGCONT)
        return waiting.result()


def test_a_late_thread_is_refused_and_its_client_gets_the_winners_answer(town: Found) -> None:
    """C4: a thread cannot be stopped from outside, so it comes to its record, and no further."""
    shop = town(mode="again")
    late, winner = shop.start(WSGIREF), shop.scanning()
    reply = freeze(shop, late, "/held", State.DONE)
    assert (reply.status, reply.replayed, reply.body) == (201, True, b'{"by": 2}')
    assert "Superseded" in shop.events(late)
    assert "Recorded" not in shop.events(late)
    assert [entry["pid"] for entry in shop.ledger] == [late.pid, winner.pid]
    assert late.post("/held").body == winner.post("/held").body == b'{"by": 2}'


def test_a_late_thread_in_mode_once_still_records_the_truth(town: Found) -> None:
    """Nobody else may have run it, so it knows best; one effect, and the parked operation has its outcome (D2)."""
    shop = town()
    late, other = shop.start(WSGIREF), shop.scanning()
    reply = freeze(shop, late, "/held", State.PARKED)
    assert (reply.status, reply.replayed, reply.body) == (201, False, b'{"by": 1}')
    assert "Recorded" in shop.events(late)
    assert shop.checkpoint.state is State.DONE
    again = other.post("/held")
    assert (again.status, again.replayed, again.body) == (201, True, b'{"by": 1}')
    assert len(shop.ledger) == 1


@pytest.mark.parametrize("path", ["/held", "/blocking"])
def test_a_late_task_is_cancelled_or_refused_and_never_answers_for_itself(town: Found, path: str) -> None:
    """The watchdog counts from before the freeze; whoever is first, the answer is not the loser's (C3, C4)."""
    shop = town(mode="again")
    late, winner = shop.start(UVICORN), shop.scanning()
    reply = freeze(shop, late, path, State.DONE)
    heard = (reply.status, reply.code, reply.body if reply.status == 201 else b"")
    assert heard in {(201, "", b'{"by": 2}'), (503, "attempt-superseded", b"")}
    assert set(shop.events(late)) & {"Superseded", "LeaseLost"}
    assert "Recorded" not in shop.events(late)
    retried = late.post(path)
    assert (retried.status, retried.replayed, retried.body) == (201, True, b'{"by": 2}')
    assert [entry["pid"] for entry in shop.ledger] == [late.pid, winner.pid]


def test_a_late_task_in_mode_once_leaves_one_effect_and_no_second_truth(town: Found) -> None:
    """It is parked, or its own outcome made it in time; either way every client hears the same (C4, D2)."""
    shop = town()
    late, other = shop.start(UVICORN), shop.scanning()
    reply = freeze(shop, late, "/blocking", State.PARKED)
    until(lambda: set(shop.events(late)) & {"LeaseLost", "Recorded"}, "it knows that it was late")
    retried = [server.post("/blocking") for server in (late, other)]
    assert len({(one.status, one.body) for one in retried}) == 1
    assert len(shop.ledger) == 1
    if reply.status == 201:
        assert [(one.replayed, one.body) for one in retried] == [(True, reply.body)] * 2
    else:
        assert reply.code in {"attempt-superseded", "outcome-unknown"}


def test_a_frozen_process_that_nobody_took_over_from_stops_or_records_but_runs_nothing_twice(town: Found) -> None:
    """C3, C5."""
    shop = town(mode="again")
    late = shop.start(UVICORN)
    with ThreadPoolExecutor(1) as client:
        waiting = client.submit(late.post, "/held")
        shop.await_effects(1)
        late.send(SIGSTOP)
        until(lambda: shop.checkpoint.lease_remaining_seconds <= 0, "its lease is over")
        late.send(SIGCONT)
        reply = waiting.result()
    assert (reply.status, reply.code) == (503, "attempt-superseded")
    retried = late.post_until_settled("/held")
    assert (retried.status, retried.body) == (201, b'{"by": 2}')
    assert [entry["attempt"] for entry in shop.ledger] == [1, 2]
