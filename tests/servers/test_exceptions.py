"""Operations that raise: what the client hears, what is recorded, and what a retry does (S3, modes)."""

from __future__ import annotations

import pytest

from tests.servers.apps import steps as to
from tests.servers.case import Case, only, own_headers
from tests.servers.harness import KEEP_ALIVE


def test_an_exception_is_the_outcome_of_a_once_operation(case: Case) -> None:
    """Mode ``once``: part of it may have happened, so it is recorded, replayed, and never run again."""
    steps = [case.effect, to.fail()]
    first = case.send(steps=steps)
    assert (first.status, first.code, first.replayed) == (500, "operation-failed", False)
    for _ in range(2):
        retry = case.send()
        assert (retry.status, retry.body, retry.replayed) == (500, first.body, True)
    assert (case.effects, b"secret-detail" in first.body) == (1, False)


def test_an_exception_frees_a_repeatable_operation(case: Case) -> None:
    """Mode ``again``: the framework shows the exception as it always does, and the next retry runs."""
    plain = case.send("/again/1", [case.effect, to.fail()], more=[("X-Plain", "yes")])
    first = case.send("/again/1", [case.effect, to.fail()])
    assert (first.status, first.body, b"secret-detail" in first.body) == (500, plain.body, False)
    assert [case.send("/again/1").replayed for _ in range(2)] == [False, True]
    assert case.effects == 3


@pytest.mark.parametrize("path", ["/once/charges", "/again/1"])
def test_an_author_may_say_that_nothing_happened(case: Case, path: str) -> None:
    """``NoEffect`` with an answer, in any mode: sent, and the key is free for the same request."""
    first = case.send(path, [case.effect, to.fail("no-effect-answer")])
    assert (first.status, first.json(), first.replayed) == (402, {"paid": False}, False)
    assert case.send(path, body=b"{}").status == 422
    assert [case.send(path).replayed for _ in range(2)] == [False, True]
    assert case.effects == 2


@pytest.mark.parametrize("path", ["/once/charges", "/again/1"])
def test_an_author_may_let_the_framework_answer_that_nothing_happened(case: Case, path: str) -> None:
    """``NoEffect`` without an answer."""
    assert case.send(path, [case.effect, to.fail("no-effect")]).status == 500
    assert [case.send(path).replayed for _ in range(2)] == [False, True]
    assert case.effects == 2


@pytest.mark.parametrize("path", ["/once/charges", "/again/1"])
def test_an_author_may_say_what_the_outcome_is(case: Case, path: str) -> None:
    """``Final``, in any mode: recorded whatever its status."""
    first = case.send(path, [case.effect, to.fail("final")])
    retry = case.send(path)
    assert (first.status, first.json(), first.replayed) == (402, {"paid": False}, False)
    assert (retry.status, retry.body, retry.replayed, case.effects) == (402, first.body, True, 1)
    assert (first.values("x-final"), own_headers(retry)) == (["yes"], own_headers(first))


@only(KEEP_ALIVE)
@pytest.mark.parametrize("kind", ["no-effect-answer", "final"])
def test_a_connection_survives_a_declared_exception(case: Case, kind: str) -> None:
    """It is an answer like another."""
    with case.begin(steps=[to.fail(kind)]) as connection:
        assert connection.reply().status == 402
        connection.send(case.request(method="GET", body=None))
        assert connection.reply("GET").status == 201


def test_an_exception_of_an_unguarded_request_is_the_frameworks(case: Case) -> None:
    """S8."""
    plain = case.send(steps=[to.fail()], key=None, more=[("X-Plain", "yes")])
    guarded = case.send(steps=[to.fail()], key=None)
    assert (guarded.status, guarded.body) == (plain.status, plain.body) == (500, plain.body)


def test_an_exception_after_the_answer_changes_nothing(case: Case) -> None:
    """S7: background work that fails."""
    steps = [case.effect, to.respond(201, "made"), to.fail()]
    assert case.send(steps=steps).body == b"made"
    retry = case.send()
    assert (retry.body, retry.replayed, case.effects) == (b"made", True, 1)


def test_the_server_goes_on_after_many_exceptions(case: Case) -> None:
    """Nothing is left locked, counted or open."""
    for number in range(10):
        assert case.send(f"/once/{number}", [to.fail()], key=f"{case.key}-{number}").status == 500
    assert case.send().status == 201
