"""In which scope a key is unique, who sees a replay, and what one key for two requests means (K4, K5, K6, K9, F1)."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.servers.apps import steps as to
from tests.servers.case import BODY, Case, only, own_headers
from tests.servers.gates import Gates
from tests.servers.harness import Kind

OTHER_REQUESTS = {
    "body": {"body": b'{"amount": 101, "note": "a-stored-payload"}'},
    "no body": {"body": b""},
    "path": {"path": "/once/charges/2"},
    "case of the path": {"path": "/once/Charges"},
    "query": {"path": "/once/charges?dry_run=1"},
    "method": {"method": "PUT"},
    "media type": {"kind": "text/plain"},
}


@pytest.mark.parametrize("other", OTHER_REQUESTS.values(), ids=OTHER_REQUESTS)
def test_a_key_for_another_request_is_refused_and_the_first_stays_replayable(case: Case, other: dict[str, str]) -> None:
    """K4, F1: neither a wrong replay nor a second run."""
    first = case.send()
    for _ in range(2):
        reply = case.send(**other)
        assert (reply.status, reply.code, reply.header("retry-after")) == (422, "key-reused", None)
    again = case.send()
    assert (again.replayed, again.body, case.effects) == (True, first.body, 1)


@only([kind for kind in Kind if kind is not Kind.WSGIREF])
def test_paths_that_differ_in_an_escape_only_are_two(case: Case) -> None:
    """F2; wsgiref tells no application how a path was written."""
    assert [case.send().status, case.send("/once%2Fcharges").status, case.effects] == [201, 422, 1]


def test_another_request_is_refused_while_the_first_is_in_flight(case: Case, gates: Gates) -> None:
    """F1: 422 comes before 409."""
    gate = gates()
    with case.begin(steps=[gate.step, *case.usual]) as first:
        gate.await_arrival()
        assert case.send(body=b"{}").status == 422
        assert case.send(body=b"{}", more=[("Prefer", "wait=10")]).status == 422
        gate.open()
        assert first.reply().status == 201
    assert case.effects == 1


def test_one_request_under_two_keys_is_two_intents(case: Case) -> None:
    """K4."""
    assert not case.send().replayed
    assert not case.send(key=f"{case.key}-2").replayed
    assert case.effects == 2


def test_two_callers_may_use_one_key_and_see_nothing_of_each_other(case: Case) -> None:
    """K4, K5."""
    alice = case.send(steps=[case.effect, to.respond(201, "for alice")])
    bob = case.send(steps=[case.effect, to.respond(201, "for bob")], token="bob-1")
    assert (alice.body, bob.body, bob.replayed, case.effects) == (b"for alice", b"for bob", False, 2)
    assert (case.send().body, case.send(token="bob-1").body) == (b"for alice", b"for bob")
    assert case.send(body=b"{}", token="bob-1").status == 422


def test_a_token_may_be_renewed_between_retries(case: Case) -> None:
    """K5: the principal is who calls, not what proves it."""
    case.send()
    assert case.send(token="alice-2").replayed
    assert case.effects == 1


def test_nobody_authenticated_is_refused_and_nothing_is_claimed(case: Case) -> None:
    """K5."""
    reply = case.send(token=None)
    assert (reply.status, reply.code, case.effects) == (401, "principal-missing", 0)
    # The corrected request with the same key runs, even if it asks for something else.
    assert (case.send(body=b"{}").replayed, case.effects) == (False, 1)


def test_an_unauthenticated_caller_is_shown_no_replay(case: Case) -> None:
    """K5, K6."""
    case.send()
    reply = case.send(token="stolen")
    assert (reply.status, case.effects, case.label.encode() in reply.body) == (401, 1, False)


def test_a_principal_that_cannot_be_told_is_an_error_and_nothing_runs(case: Case) -> None:
    """K5."""
    reply = case.send(token="broken")
    assert (reply.status, case.effects, b"secret-detail" in reply.body) == (500, 0, False)
    assert not case.send().replayed


def test_a_caller_who_lost_the_right_is_not_shown_the_outcome(case: Case) -> None:
    """K6."""
    case.send()
    refused = case.send(more=[("X-Revoked", "yes")])
    assert (refused.status, refused.code, case.label.encode() in refused.body) == (403, "replay-refused", False)
    assert "location" not in {name.lower() for name, _ in refused.headers}
    assert (case.send().replayed, case.effects) == (True, 1)


def test_a_service_with_one_caller_needs_no_principal(case: Case) -> None:
    """K5: spelled out as ``principal=SHARED``."""
    assert [case.send("/shared/charges", token=None).replayed for _ in range(2)] == [False, True]
    assert case.effects == 1


def test_a_guard_inside_a_guarded_request_joins_it(case: Case) -> None:
    """K9: it neither answers itself 409 nor takes the body away."""
    first = case.send("/nested/charges", [case.effect, to.echo()])
    assert (first.status, first.json()["body"].encode()) == (200, BODY)
    retry = case.send("/nested/charges")
    assert (retry.replayed, retry.body, case.effects) == (True, first.body, 1)


def test_a_stream_passes_a_guard_inside_a_guarded_request(case: Case) -> None:
    """K9, S5."""
    reply = case.send("/nested/charges", [case.effect, to.start(), to.chunk("one"), to.chunk("two"), to.end()])
    assert (reply.body, case.send("/nested/charges").code, case.effects) == (b"onetwo", "completed-not-replayable", 1)


def test_a_nested_guard_refuses_as_one(case: Case) -> None:
    """K9, F1."""
    case.send("/nested/charges")
    assert case.send("/nested/charges", body=b"{}").status == 422
    assert case.send("/nested/charges", key=f"{case.key} {case.key}").status == 400


@pytest.mark.parametrize("path", ["/once/caf%C3%A9", "/once/caf%c3%a9", "/once/a%20b%3Bc", "/once/%FF"])
def test_unusual_paths_are_served_and_replayed(case: Case, path: str) -> None:
    """K4."""
    replies = [case.send(f"{path}{quote('/;=@')}?q=%2B") for _ in range(2)]
    assert [(reply.status, reply.replayed) for reply in replies] == [(201, False), (201, True)]
    assert own_headers(replies[1]) == own_headers(replies[0], without=["set-cookie"])
