"""What is particular to Django."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connections, transaction

from retrysafe import ConfigurationError, Response, State
from retrysafe.adapters.transactions.django import DjangoTransactions
from tests.adapters.transactions.conftest import Found
from tests.adapters.transactions.djangos import forget, register
from tests.adapters.transactions.places import INSERT, Place

on_both = pytest.mark.parametrize("place", ["django sqlite", "django psycopg"], indirect=True)


def _using(place: Place) -> str:
    alias: str = place.binding._using
    return alias


def _transfer(place: Place) -> Any:
    def transfer(op: Any) -> Response:
        place.insert(op.session)
        return Response(201)

    return transfer


def test_atomic_requests_is_refused_before_the_first_request(found: Found) -> None:
    """R11: Django would commit after the outcome was recorded."""
    alias = register(found("django sqlite").url, ATOMIC_REQUESTS=True)
    with pytest.raises(ConfigurationError, match="non_atomic_requests"):
        DjangoTransactions(alias)
    DjangoTransactions(alias, atomic_requests=True)
    forget(alias)


@on_both
def test_an_operation_inside_an_atomic_block_is_refused_and_does_not_run(place: Place) -> None:
    """R11."""
    with transaction.atomic(using=_using(place)), pytest.raises(ConfigurationError, match="inside another"):
        place.call(_transfer(place), "transaction")
    assert (place.effects, place.state) == (0, State.RELEASED)


@on_both
def test_blocks_inside_the_operation_are_savepoints(place: Place) -> None:
    def transfer(op: Any) -> Response:
        place.insert(op.session)
        with suppress(ValueError), transaction.atomic(using=_using(place)):
            place.insert(op.session)
            raise ValueError
        return Response(201)

    assert place.call(transfer, "transaction").status == 201
    assert place.effects == 1


@on_both
def test_an_error_that_broke_the_transaction_and_was_caught_commits_nothing(place: Place) -> None:
    """R11: Django would roll back in silence, and the client have its 201."""

    def transfer(op: Any) -> Response:
        place.insert(op.session)
        with pytest.raises(IntegrityError), transaction.atomic(using=_using(place), savepoint=False):
            place.execute_on(op.session, "INSERT INTO counters VALUES ('a', 0)")
        return Response(201)

    with pytest.raises(transaction.TransactionManagementError):
        place.call(transfer, "transaction")
    assert (place.effects, place.state) == (0, State.RELEASED)
    broken = place.begin()
    broken.insert()
    broken.inner.handle.set_rollback(rollback=True)
    with pytest.raises(transaction.TransactionManagementError, match="rolls the whole"):
        broken.commit()
    assert place.effects == 0


@on_both
def test_what_runs_on_commit_and_raises_does_not_undo_the_outcome(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """S1, D4: it is durable, and the client gets it."""
    ran: list[str] = []

    def fail() -> None:
        ran.append("failed")
        raise ValueError("no mail today")

    def transfer(op: Any) -> Response:
        transaction.on_commit(lambda: ran.append("first"), using=_using(place))
        transaction.on_commit(fail, using=_using(place))
        place.insert(op.session)
        return Response(201)

    assert place.call(transfer, "transaction").status == 201
    assert (place.effects, place.state, ran) == (1, State.DONE, ["first", "failed"])
    assert "no mail today" in caplog.text


@on_both
def test_what_is_rolled_back_runs_nothing_on_commit(place: Place) -> None:
    ran: list[str] = []

    def transfer(op: Any) -> Response:
        transaction.on_commit(lambda: ran.append("sent"), using=_using(place))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        place.call(transfer, "transaction")
    assert ran == []
    # And the connection is in autocommit mode again.
    with connections[_using(place)].cursor() as cursor:
        cursor.execute(INSERT)
    assert place.effects == 1


@on_both
def test_commit_and_rollback_of_djangos_own_are_refused_inside(place: Place) -> None:
    """R11: by Django itself."""
    opened = place.begin()
    opened.insert()
    for end in (transaction.commit, transaction.rollback):
        with pytest.raises(transaction.TransactionManagementError):
            end(using=_using(place))
    opened.rollback()
    assert place.effects == 0


def test_a_view_that_is_async_is_told_that_django_has_no_transactions_for_it(found: Found) -> None:
    """R11: in another thread there is another connection, which would commit each statement on its own."""
    place = found("django sqlite")
    assert place.binding.thread_bound

    async def transfer(op: Any) -> Response:
        raise AssertionError("it must not run")

    async def call() -> Response:
        answer: Response = await place.guard.operation("transfer", mode="transaction")(transfer)(key="k")
        return answer

    with pytest.raises(ConfigurationError, match="thread"):
        asyncio.run(call())


def test_a_connection_that_cannot_be_made_is_djangos_error(found: Found) -> None:
    alias = register("postgresql://tests@127.0.0.1:1/nowhere")
    with pytest.raises(DatabaseError):
        DjangoTransactions(alias).begin(1.0)
    forget(alias)
    assert found("django sqlite").begin().inner.handle.in_atomic_block
