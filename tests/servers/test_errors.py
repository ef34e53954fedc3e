"""What is answered instead of an outcome: the table of §E, on the wire."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import pytest

from retrysafe import State
from tests.servers.apps import steps as to
from tests.servers.apps.guards import SMALL
from tests.servers.case import Case
from tests.servers.gates import Gates
from tests.servers.test_conflicts import end_lease, newest

if TYPE_CHECKING:
    from tests.servers.wire import Reply

SECRETS = (b"secret-", b"a-stored-payload", b"alice", b"Traceback", b"sqlite", b"store.db")


class Problem(NamedTuple):
    """One row of the table, and how to get there."""

    status: int
    code: str
    provoke: Callable[[Case, Gates], Reply]
    retryable: bool = False
    new_key_safe: bool | None = None
    asks_again: bool = False
    """It has a ``Retry-After``."""
    names_operation: bool = False


def _in_progress(case: Case, gates: Gates) -> Reply:
    gate = gates()
    with case.begin(steps=[case.effect, gate.step, to.respond()]) as first:
        gate.await_arrival()
        reply = case.send()
        gate.open()
        first.reply()
    return reply


def _unknown(case: Case, gates: Gates) -> Reply:
    gate = gates()
    with case.begin(steps=[case.effect, gate.step, to.respond()]) as first:
        gate.await_arrival()
        end_lease(case)
        reply = case.send()
        gate.open()
        first.reply()
    return reply


def _superseded(case: Case, gates: Gates) -> Reply:
    late, later = gates(), gates()
    with case.begin("/again/1", [late.step, to.respond(201, "secret-loser")]) as loser:
        late.await_arrival()
        end_lease(case)
        with case.begin("/again/1", [later.step, to.respond()]) as winner:
            later.await_arrival()
            late.open()
            reply = loser.reply()
            later.open()
            winner.reply()
    return reply


def _not_kept(case: Case, _: Gates) -> Reply:
    steps = [case.effect, to.start(201, [("Location", "/things/1")]), to.chunk("secret-stream"), to.end()]
    case.send(steps=steps)
    return case.send(steps=steps)


def _expired(case: Case, _: Gates) -> Reply:
    case.send("/expires/1")
    return case.send("/expires/1")


def _reused(case: Case, _: Gates) -> Reply:
    case.send()
    return case.send(body=b"{}")


def _refused_replay(case: Case, _: Gates) -> Reply:
    case.send()
    return case.send(more=[("X-Revoked", "yes")])


def _unreadable(case: Case, _: Gates) -> Reply:
    case.send()
    with closing(sqlite3.connect(case.server.directory / "store.db", timeout=10)) as database, database:
        database.execute(
            "UPDATE retrysafe_checkpoint SET outcome = X'FF00' WHERE operation_id = ?",
            (newest(case, State.DONE).operation_id,),
        )
    return case.send()


TABLE = (
    Problem(400, "key-missing", lambda case, _: case.send("/required/1", key=None)),
    Problem(400, "key-malformed", lambda case, _: case.send(key="secret-key secret-key")),
    Problem(401, "principal-missing", lambda case, _: case.send(token=None)),
    Problem(403, "replay-refused", _refused_replay, new_key_safe=False),
    Problem(
        409, "in-progress", _in_progress, retryable=True, new_key_safe=False, asks_again=True, names_operation=True
    ),
    Problem(409, "outcome-unknown", _unknown, new_key_safe=False, names_operation=True),
    Problem(409, "completed-not-replayable", _not_kept, new_key_safe=False, names_operation=True),
    Problem(410, "key-expired", _expired, new_key_safe=False, names_operation=True),
    Problem(413, "request-too-large", lambda case, _: case.send("/small/1", body=b"x" * (SMALL + 1))),
    Problem(422, "key-reused", _reused),
    Problem(
        503,
        "attempt-superseded",
        _superseded,
        retryable=True,
        new_key_safe=False,
        asks_again=True,
        names_operation=True,
    ),
    Problem(
        503,
        "store-unavailable",
        lambda case, _: case.send("/storeless/1"),
        retryable=True,
        new_key_safe=False,
        asks_again=True,
    ),
    Problem(503, "record-unreadable", _unreadable, retryable=True, new_key_safe=False, asks_again=True),
)


@pytest.mark.parametrize("problem", TABLE, ids=lambda problem: problem.code)
def test_every_refusal_is_a_problem_that_a_program_understands(case: Case, gates: Gates, problem: Problem) -> None:
    """§E, K8, RFC 9457."""
    reply = problem.provoke(case, gates)
    assert (reply.status, reply.values("content-type")) == (problem.status, ["application/problem+json"])
    body = reply.json()
    assert (body["status"], body["code"]) == (problem.status, problem.code)
    assert body["type"] == f"urn:retrysafe:problem:{problem.code}"
    assert body["title"]
    assert body["detail"]
    assert body["retryable"] is problem.retryable
    assert body.get("new_key_safe") is problem.new_key_safe
    assert ("operation" in body) is problem.names_operation
    assert reply.values("cache-control") == ["no-store"]
    assert reply.values("content-length") == [str(len(reply.body))]
    assert not reply.replayed
    retry_after = reply.values("retry-after")
    assert len(retry_after) == problem.asks_again
    assert all(int(seconds) >= 1 for seconds in retry_after)


@pytest.mark.parametrize("problem", TABLE, ids=lambda problem: problem.code)
def test_no_refusal_tells_a_secret(case: Case, gates: Gates, problem: Problem) -> None:
    """K8: no key, no payload, no credential, nothing of another caller, nothing of the inside."""
    reply = problem.provoke(case, gates)
    text = reply.body + repr(reply.headers).encode()
    assert [secret for secret in SECRETS if secret in text] == []


def test_a_refused_request_is_refused_again(case: Case) -> None:
    """F1, I18 of the IETF draft: repeating an uncorrected request never helps."""
    case.send()
    assert [case.send(body=b"{}").status for _ in range(4)] == [422] * 4
    assert [case.send("/required/1", key=None).status for _ in range(4)] == [400] * 4


def test_a_replay_of_what_was_not_kept_leads_to_what_was_made(case: Case, gates: Gates) -> None:
    """S5."""
    reply = _not_kept(case, gates)
    assert (reply.json()["original_status"], reply.json()["location"], reply.header("location")) == (
        201,
        "/things/1",
        "/things/1",
    )
    assert case.effects == 1


def test_a_request_that_is_too_large_is_told_the_limit(case: Case) -> None:
    """S8."""
    assert case.send("/small/1", body=b"x" * (SMALL + 1)).json()["limit_bytes"] == SMALL
