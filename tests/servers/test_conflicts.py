"""A second request while the first is in flight, races, and attempts that lost their claim (C1, C4, C6, S9)."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import pytest

from retrysafe import State
from retrysafe.stores.base import Query
from tests.servers.apps import steps as to
from tests.servers.case import Case, only
from tests.servers.gates import Gates
from tests.servers.harness import Kind

if TYPE_CHECKING:
    from retrysafe import Checkpoint
    from tests.servers.wire import Reply

AT_ONCE = 8


def newest(case: Case, state: State) -> Checkpoint:
    """Return the newest checkpoint in a state."""
    query = Query(states=frozenset({state}), limit=1)
    (checkpoint,) = case.server.store.query(partial(case.server.store.verbs.listing, query))
    return checkpoint


def end_lease(case: Case) -> None:
    """Let the newest attempt look dead, as if its process had been frozen for longer than its lease."""
    claim = newest(case, State.RUNNING).claim(1.0)
    case.server.store.run(partial(case.server.store.verbs.hand_over, [claim]))


def test_a_retry_meets_the_first_attempt_in_flight(case: Case, gates: Gates) -> None:
    """C1, and §E: 409 and when to ask again."""
    gate = gates()
    with case.begin(steps=[case.effect, gate.step, to.respond(201, "first")]) as first:
        gate.await_arrival()
        for _ in range(2):
            reply = case.send()
            assert (reply.status, reply.code) == (409, "in-progress")
            assert int(reply.header("retry-after") or 0) >= 1
        gate.open()
        assert first.reply().body == b"first"
    assert (case.send().body, case.effects) == (b"first", 1)


@pytest.mark.parametrize("path", ["/once/charges", "/waits/charges"])
def test_a_retry_that_waits_gets_the_answer_of_the_first(case: Case, gates: Gates, path: str) -> None:
    """S9: the client asks for it, or the operation's author does."""
    gate = gates()
    prefer = [("Prefer", "respond-async, wait=10")] if path == "/once/charges" else []
    with case.begin(path, [case.effect, gate.step, to.respond(201, "first")]) as first:
        gate.await_arrival()
        with case.begin(path, more=prefer) as waiting:
            gate.open()
            reply = waiting.reply()
        assert (reply.body, reply.replayed, first.reply().body, case.effects) == (b"first", True, b"first", 1)


def test_a_client_that_does_not_want_to_wait_is_told_at_once(case: Case, gates: Gates) -> None:
    """S9."""
    gate = gates()
    with case.begin("/waits/charges", [case.effect, gate.step, to.respond()]) as first:
        gate.await_arrival()
        assert case.send("/waits/charges", more=[("Prefer", "wait=0")]).code == "in-progress"
        gate.open()
        assert first.reply().status == 201


@only([Kind.UVICORN, Kind.GUNICORN_THREADS])
def test_a_wait_ends(case: Case, gates: Gates) -> None:
    """S9: when the client said that it would, and then the answer is 409."""
    gate = gates()
    with case.begin(steps=[case.effect, gate.step, to.respond()]) as first:
        gate.await_arrival()
        assert case.send(more=[("Prefer", "wait=1")]).code == "in-progress"
        gate.open()
        assert (first.reply().status, case.effects) == (201, 1)


def test_who_waited_claims_a_key_that_was_released(case: Case, gates: Gates) -> None:
    """C6, S9: a waiter is not told 409 for a key that is free."""
    gate = gates()
    with case.begin("/again/1", [gate.step, to.respond(503, "not now")]) as first:
        gate.await_arrival()
        with case.begin("/again/1", more=[("Prefer", "wait=10")]) as waiting:
            gate.open()
            assert first.reply().status == 503
            reply = waiting.reply()
    assert (reply.status, reply.replayed, case.effects) == (201, False, 1)
    assert case.send("/again/1").replayed


def test_of_many_equal_requests_one_is_executed(case: Case, gates: Gates) -> None:
    """C1, C6: the others are told that it is in progress, or get its answer."""
    replies = _all_at_once(case, [case.request()] * AT_ONCE)
    kinds = Counter((reply.status, reply.replayed, reply.code) for reply in replies)
    assert kinds.pop((201, False, "")) == 1
    assert set(kinds) <= {(201, True, ""), (409, False, "in-progress")}
    assert case.effects == 1
    assert len({reply.body for reply in replies if reply.status == 201}) == 1


def test_of_many_requests_with_one_key_one_is_executed(case: Case) -> None:
    """F1, C1: whoever asks for something else is refused, also while the winner is in flight."""
    bodies = [b'{"amount": %d}' % number for number in range(AT_ONCE)]
    replies = _all_at_once(case, [case.request(body=body) for body in bodies])
    assert sorted(reply.status for reply in replies) == [201] + [422] * (AT_ONCE - 1)
    assert case.effects == 1


def _all_at_once(case: Case, requests: list[bytes]) -> list[Reply]:
    def send(request: bytes) -> Reply:
        with case.server.connect() as connection:
            connection.send(request)
            return connection.reply()

    with ThreadPoolExecutor(len(requests)) as clients:
        return list(clients.map(send, requests))


def test_the_loser_never_answers_with_its_own_outcome(case: Case, gates: Gates) -> None:
    """C4: with the winner's, or with nothing; a task is stopped as soon as that is known, a thread is not."""
    gate = gates()
    with case.begin("/again/1", [gate.step, to.respond(201, "loser")]) as loser:
        gate.await_arrival()
        end_lease(case)
        winner = case.send("/again/1", [case.effect, to.respond(201, "winner")])
        assert (winner.body, winner.replayed) == (b"winner", False)
        gate.open()
        reply = loser.reply()
    if reply.status == 201:
        assert (reply.body, reply.replayed) == (b"winner", True)
    else:
        assert (reply.status, reply.code) == (503, "attempt-superseded")
        assert case.server.kind.asgi
    assert (case.send("/again/1").body, case.effects) == (b"winner", 1)


def test_the_loser_says_nothing_while_the_winner_works(case: Case, gates: Gates) -> None:
    """C4."""
    late, later = gates(), gates()
    with case.begin("/again/1", [late.step, to.respond(201, "loser")]) as loser:
        late.await_arrival()
        end_lease(case)
        with case.begin("/again/1", [later.step, case.effect, to.respond(201, "winner")]) as winner:
            later.await_arrival()
            late.open()
            reply = loser.reply()
            assert (reply.status, reply.code, b"loser" in reply.body) == (503, "attempt-superseded", False)
            assert int(reply.header("retry-after") or 0) >= 1
            later.open()
            assert winner.reply().body == b"winner"
    assert (case.send("/again/1").body, case.effects) == (b"winner", 1)


def test_a_loser_may_not_free_the_winners_key(case: Case, gates: Gates) -> None:
    """C4: a release is a write like another."""
    gate = gates()
    with case.begin("/again/1", [gate.step, to.respond(503, "loser")]) as loser:
        gate.await_arrival()
        end_lease(case)
        assert case.send("/again/1").status == 201
        gate.open()
        assert b"loser" not in loser.reply().body
        assert (case.send("/again/1").replayed, case.effects) == (True, 1)


def test_an_operation_whose_outcome_is_unknown_is_held(case: Case, gates: Gates) -> None:
    """C7, mode ``once``: it is parked, and only the late attempt itself may still tell the truth."""
    gate = gates()
    with case.begin(steps=[case.effect, gate.step, to.respond(201, "late")]) as late:
        gate.await_arrival()
        end_lease(case)
        for _ in range(2):
            reply = case.retry()
            assert (reply.status, reply.code, reply.header("retry-after")) == (409, "outcome-unknown", None)
        assert case.send(body=b"{}").status == 422
        gate.open()
        assert late.reply().body == b"late"
    assert (case.send().body, case.effects) == (b"late", 1)
