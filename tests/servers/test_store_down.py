"""A store that was never there, is locked, or goes away: before the operation and after its effect (D1, D2)."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager

import pytest

from tests.servers import locks
from tests.servers.apps import steps as to
from tests.servers.case import Case, only
from tests.servers.gates import Gates
from tests.servers.harness import Kind
from tests.servers.wire import PATIENCE_SECONDS

KEPT_BACK = ("idempotency-stored", "idempotency-status")


def locked(case: Case) -> AbstractContextManager[None]:
    """Keep everybody else from writing to the brief store."""
    return locks.locked(case.server.directory / "brief" / "store.db")


@pytest.fixture
def opened(case: Case) -> None:
    """The brief store has been used."""
    assert Case(case.server).send("/brief/first").status == 201


def test_without_a_store_nothing_is_run(case: Case) -> None:
    """D1: fail closed."""
    for _ in range(2):
        reply = case.send("/storeless/charges")
        assert (reply.status, reply.code, case.effects) == (503, "store-unavailable", 0)


def test_without_a_store_what_is_not_guarded_is_served(case: Case) -> None:
    """D1, S8: the service as a whole stays up."""
    assert case.send("/storeless/charges", key=None).status == 201
    assert case.send("/storeless/charges", method="GET", body=None).status == 201
    assert case.effects == 2


def test_an_operation_may_be_declared_to_run_unprotected(case: Case) -> None:
    """D1: then its answer says so."""
    before = len(case.server.events("storeless-open"))
    for _ in range(2):
        reply = case.send("/storeless/open/1")
        assert (reply.status, reply.values("Idempotency-Status"), reply.replayed) == (201, ["unprotected"], False)
    assert case.effects == 2
    told = case.server.events("storeless-open")[before:]
    assert told.count("Unprotected(name='storeless-open', reason='store unavailable')") == 2


def test_an_unprotected_stream_says_so(case: Case) -> None:
    """D1, S5."""
    reply = case.send("/storeless/open/1", [case.effect, to.start(), to.chunk("one"), to.chunk("two"), to.end()])
    assert (reply.status, reply.body, reply.values("Idempotency-Status")) == (200, b"onetwo", ["unprotected"])


@pytest.mark.usefixtures("opened")
def test_while_the_store_is_away_nothing_is_run(case: Case) -> None:
    """D1: and when it is back, the retry runs."""
    with locked(case):
        for _ in range(2):
            reply = case.send("/brief/charges")
            assert (reply.status, reply.code, case.effects) == (503, "store-unavailable", 0)
    assert [case.send("/brief/charges").replayed for _ in range(2)] == [False, True]
    assert case.effects == 1


@pytest.mark.usefixtures("opened")
def test_while_the_store_is_away_a_finished_operation_is_not_run_again(case: Case) -> None:
    """D1."""
    case.send("/brief/charges")
    with locked(case):
        assert case.send("/brief/charges").status in {201, 503}
    assert (case.send("/brief/charges").replayed, case.effects) == (True, 1)


@only([Kind.UVICORN, Kind.GUNICORN_THREADS])
@pytest.mark.usefixtures("opened")
def test_a_store_that_is_taken_away_is_noticed_and_used_again_when_it_is_back(case: Case) -> None:
    """D1: at the latest after a second; until then it is the file that was moved."""
    case.send("/brief/charges")
    place = case.server.directory / "brief"
    place.rename(place.with_name("elsewhere"))
    try:
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while (reply := Case(case.server).send("/brief/charges")).status != 503:
            assert time.monotonic() < give_up_at
        assert reply.code == "store-unavailable"
        assert Case(case.server).send("/brief/charges").status == 503
    finally:
        place.with_name("elsewhere").rename(place)
    assert (case.send("/brief/charges").replayed, case.effects) == (True, 1)


@pytest.mark.usefixtures("opened")
def test_while_the_store_is_away_an_operation_may_run_unprotected(case: Case) -> None:
    """D1: stamped and counted."""
    before = len(case.server.events("brief-open"))
    with locked(case):
        reply = case.send("/brief/open/1")
        assert (reply.status, reply.values("Idempotency-Status")) == (201, ["unprotected"])
    assert "Unprotected(name='brief-open', reason='store unavailable')" in case.server.events("brief-open")[before:]


@pytest.mark.parametrize("path", ["/brief/charges", "/brief/again/1"])
@pytest.mark.usefixtures("opened")
def test_when_the_store_fails_after_the_effect_the_client_is_told_the_truth(
    case: Case, gates: Gates, path: str
) -> None:
    """D2: the claim is kept, and the outcome recorded as soon as the store is back."""
    gate = gates()
    with case.begin(path, [case.effect, gate.step, to.respond(201, "true")]) as first:
        gate.await_arrival()
        with locked(case):
            gate.open()
            reply = first.reply()
            assert (reply.status, reply.body, reply.values("Idempotency-Stored")) == (201, b"true", ["false"])
    retry = case.retry(path)
    assert (retry.status, retry.body, retry.replayed, case.effects) == (201, b"true", True, 1)
    assert [name for name, _ in retry.headers if name.lower() in KEPT_BACK] == []


@pytest.mark.usefixtures("opened")
def test_when_the_store_fails_before_a_stream_begins_the_stream_says_so(case: Case, gates: Gates) -> None:
    """D2, S5."""
    gate = gates()
    with case.begin("/brief/1", [case.effect, gate.step, to.start(), to.chunk("one"), to.end()]) as first:
        gate.await_arrival()
        with locked(case):
            gate.open()
            reply = first.reply()
            assert (reply.body, reply.values("Idempotency-Stored")) == (b"one", ["false"])
    assert (case.retry("/brief/1").code, case.effects) == ("completed-not-replayable", 1)


@pytest.mark.usefixtures("opened")
def test_when_the_store_fails_a_key_is_released_later(case: Case, gates: Gates) -> None:
    """D2, S3."""
    gate = gates()
    with case.begin("/brief/again/1", [gate.step, to.respond(503, "not now")]) as first:
        gate.await_arrival()
        with locked(case):
            gate.open()
            assert first.reply().status == 503
    assert (case.retry("/brief/again/1").status, case.effects) == (201, 1)
