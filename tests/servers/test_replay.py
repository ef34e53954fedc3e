"""What is recorded and replayed, what is released, and for how long (S1, S2, S3, S4, S6, S7, S10)."""

from __future__ import annotations

import gzip
from functools import partial

import pytest

from retrysafe import State
from retrysafe.stores.base import Query
from tests.servers.apps import steps as to
from tests.servers.case import Case, own_headers
from tests.servers.gates import Gates

SUCCESSES = [200, 201, 202, 203, 204, 205, 301, 303, 307]
REFUSALS = [400, 402, 404, 409, 410, 412, 418, 422, 423, 429, 451]
FAILURES = [500, 502, 503, 599]
DROPPED = {
    "Set-Cookie": "session=secret",
    "WWW-Authenticate": "Bearer",
    "RateLimit-Remaining": "3",
    "X-RateLimit-Remaining": "3",
    "Access-Control-Allow-Origin": "https://shop.test",
    "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "X-Request-Id": "abc",
    "Server-Timing": "db;dur=53",
    "Idempotent-Replayed": "true",
}


def test_a_retry_gets_the_first_answer_byte_for_byte(case: Case) -> None:
    """S2, S4, S7: order and duplicates are kept, and only cookies stay behind."""
    plain = case.send(more=[("X-Plain", "yes")])
    first = case.send()
    assert (first.status, first.body, own_headers(first)) == (plain.status, plain.body, own_headers(plain))
    assert sorted(first.values("set-cookie")) == ["csrf=secret-cookie", "session=secret-cookie"]
    for _ in range(3):
        retry = case.send()
        assert (retry.status, retry.body) == (first.status, first.body)
        assert own_headers(retry) == own_headers(first, without=["set-cookie"])
        assert retry.values("x-twice") == ["one", "two"]
        assert retry.values("content-length") == [str(len(first.body))]
    # The unguarded run and the first guarded one.
    assert case.effects == 2


def test_replays_are_marked_and_first_answers_are_not(case: Case) -> None:
    """S7: and a script of another origin may read the mark."""
    first, retry = case.send(), case.send()
    assert (first.values("Idempotent-Replayed"), retry.values("Idempotent-Replayed")) == ([], ["true"])
    assert retry.values("Access-Control-Expose-Headers") == ["Idempotent-Replayed"]


@pytest.mark.parametrize("status", [*SUCCESSES, *REFUSALS, *FAILURES])
def test_whatever_a_once_operation_answers_is_recorded(case: Case, status: int) -> None:
    """S2, S3: a charge may have come before a 429 or a 503."""
    text = "" if status in {204, 205} else "the body"
    steps = [case.effect, to.respond(status, text, [("X-Own", "kept")])]
    first, retry = case.send(steps=steps), case.send(steps=steps)
    assert (first.status, retry.status, retry.replayed) == (status, status, True)
    assert (retry.body, retry.header("x-own"), case.effects) == (first.body, "kept", 1)


@pytest.mark.parametrize(
    "body",
    [b"", bytes(range(256)), gzip.compress(b"zipped", mtime=0), b"x" * 70_000, b"\r\n0\r\n\r\n"],
    ids=["empty", "every byte", "gzip", "long", "looks like the end"],
)
def test_a_body_is_replayed_whatever_it_holds(case: Case, body: bytes) -> None:
    """S2."""
    if len(body) > 1000:
        steps = [case.effect, ["start", 200, [["Content-Length", str(len(body))]]], to.fill(len(body)), to.end()]
    else:
        steps = [case.effect, to.respond(200, body.decode("latin-1"), [("Content-Encoding", "gzip")])]
    first, retry = case.send(steps=steps), case.send(steps=steps)
    assert (first.body, first.replayed, retry.body, retry.replayed) == (body, False, body, True)
    assert own_headers(retry) == own_headers(first)


@pytest.mark.parametrize("name", DROPPED)
def test_what_belongs_to_the_moment_is_sent_once(case: Case, name: str) -> None:
    """S4."""
    steps = [case.effect, to.respond(201, "made", [(name, DROPPED[name]), ("X-Own", "kept")])]
    first, retry = case.send(steps=steps), case.send(steps=steps)
    assert (first.header(name), first.header("x-own")) == (DROPPED[name], "kept")
    assert (retry.replayed, retry.header("x-own")) == (True, "kept")
    assert retry.header(name) in {None, "true" if name == "Idempotent-Replayed" else None}


def test_the_outcome_is_durable_before_the_first_byte_is_sent(case: Case) -> None:
    """S1."""
    case.send("/released/durable")
    newest = partial(case.server.store.verbs.listing, Query(limit=1))
    (checkpoint,) = case.server.store.query(newest)
    assert (checkpoint.name, checkpoint.state) == ("released", State.DONE)


@pytest.mark.parametrize("status", [401, 403, 409, 412, 423, 429, 500, 502, 503])
def test_a_repeatable_operation_is_free_again_after_it_failed(case: Case, status: int) -> None:
    """S3."""
    failed = case.send("/again/1", [case.effect, to.respond(status, "not now")])
    worked = case.send("/again/1")
    assert (failed.status, failed.replayed, worked.status, worked.replayed) == (status, False, 201, False)
    assert (case.send("/again/1").replayed, case.effects) == (True, 2)


@pytest.mark.parametrize("status", [200, 204, 303, 400, 402, 404, 410, 422])
def test_a_repeatable_operation_is_recorded_when_it_ended(case: Case, status: int) -> None:
    """S3."""
    steps = [case.effect, to.respond(status, "")]
    assert [case.send("/again/1", steps).status for _ in range(2)] == [status, status]
    assert case.effects == 1


def test_a_status_that_its_author_declared_harmless_frees_the_key(case: Case) -> None:
    """S3: also in mode ``once``."""
    refused = [case.send("/released/1", [case.effect, to.respond(402, "no money")]) for _ in range(2)]
    assert [(reply.status, reply.replayed) for reply in refused] == [(402, False)] * 2
    assert (case.send("/released/1").replayed, case.send("/released/1").replayed, case.effects) == (False, True, 3)


def test_a_released_key_remembers_what_it_was_for(case: Case) -> None:
    """S6."""
    case.send("/released/1", [to.respond(402, "no money")])
    assert case.send("/released/1", body=b"{}").status == 422
    assert case.send("/released/1").status == 201


def test_background_work_is_done_once_and_after_the_answer(case: Case, gates: Gates) -> None:
    """S7."""
    gate = gates()
    steps = [to.respond(202, "accepted"), gate.step, case.effect]
    with case.begin(steps=steps) as connection:
        assert connection.reply().body == b"accepted"
        gate.await_arrival()
        assert case.effects == 0
        # The outcome is there already; nobody waits for the background work, and nobody does it again.
        assert case.send(steps=steps).replayed
        gate.open()
    assert case.send(steps=steps).replayed
    assert not gate.has_visitor
    wait_for_effect(case)


def wait_for_effect(case: Case) -> None:
    """The handler left the gate; its mark follows at once."""
    for _ in range(10_000):
        if case.effects:
            break
    assert case.effects == 1


def test_an_outcome_past_its_retention_is_gone_and_the_operation_is_not_run_again(case: Case) -> None:
    """S10."""
    assert case.send("/expires/1").status == 201
    for _ in range(2):
        reply = case.send("/expires/1")
        assert (reply.status, reply.code) == (410, "key-expired")
        assert case.label.encode() not in reply.body
    assert case.send("/expires/1", body=b"{}").status == 422
    assert case.effects == 1


def test_a_key_past_its_tombstone_is_a_new_key(case: Case) -> None:
    """S10, C6."""
    assert [case.send("/forgets/1").replayed for _ in range(2)] == [False, False]
    assert case.send("/forgets/1", body=b"{}").status == 201
    assert case.effects == 3
