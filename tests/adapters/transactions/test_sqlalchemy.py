"""What is particular to SQLAlchemy: which session is the operation's, and what others may do beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from retrysafe import ConfigurationError, Response, State, current_operation
from retrysafe.adapters.transactions.sqlalchemy import AsyncSQLAlchemyTransactions, SQLAlchemyTransactions
from retrysafe.runtime.context import conclude
from tests.adapters.transactions.conftest import Found
from tests.adapters.transactions.places import LOOPS_ON_POSTGRES, PATIENCE_SECONDS, Place

INSERT = sqlalchemy.text("INSERT INTO effects VALUES ('done')")


class Base(DeclarativeBase):
    pass


class Counter(Base):
    __tablename__ = "counters"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int]


@pytest.fixture
def place(found: Found) -> Place:
    return found("sqlalchemy psycopg")


@pytest.fixture
def engine(place: Place) -> Iterator[sqlalchemy.Engine]:
    """The application's engine, beside the binding's."""
    engine = sqlalchemy.create_engine(f"postgresql+psycopg://{place.url.partition('://')[2]}")
    yield engine
    engine.dispose()


def _new(name: str = "c") -> Counter:
    return Counter(name=name, value=1)


def _counters(place: Place) -> list[str]:
    return [name for (name,) in place.execute("SELECT name FROM counters ORDER BY name")]


# The operation's own session.


def test_objects_of_the_session_are_flushed_before_the_outcome_and_not_committed_without_it(place: Place) -> None:
    """R11: the store's write is the last one."""

    def add(op: Any) -> Response:
        op.session.add(_new())
        return Response(201)

    assert place.call(add, "transaction").status == 201
    assert (_counters(place), place.state) == (["a", "b", "c"], State.DONE)

    def add_again(op: Any) -> Response:
        op.session.add(_new())
        return Response(201)

    with pytest.raises(sqlalchemy.exc.IntegrityError):
        place.call(add_again, "transaction", "another")


def test_the_sessionmakers_settings_are_kept(place: Place, engine: sqlalchemy.Engine) -> None:
    held: list[Counter] = []

    def add(op: Any) -> Response:
        held.append(_new(op.id))
        op.session.add(held[-1])
        return Response(201)

    place.rebind(SQLAlchemyTransactions(sessionmaker(engine, expire_on_commit=False)))
    place.call(add, "transaction")
    assert held[-1].value == 1
    place.rebind(SQLAlchemyTransactions(sessionmaker(engine)))
    place.call(add, "transaction", "another")
    with pytest.raises(sqlalchemy.orm.exc.DetachedInstanceError):
        _ = held[-1].value


@pytest.mark.parametrize(
    "end",
    [
        lambda session: session.commit(),
        lambda session: session.connection().commit(),
        lambda session: session.get_transaction().commit(),
    ],
)
def test_it_refuses_to_be_committed_by_the_operations_code(place: Place, end: Callable[[Session], None]) -> None:
    """R11."""

    def careless(op: Any) -> Response:
        op.session.add(_new())
        op.session.flush()
        end(op.session)
        return Response(201)

    with pytest.raises(ConfigurationError, match="leave commit and rollback"):
        place.call(careless, "transaction")
    assert (_counters(place), place.state) == (["a", "b"], State.RELEASED)
    # And nothing of it is left in the connection.
    assert place.call(lambda op: op.session.add(_new()), "transaction").status == 200
    assert _counters(place) == ["a", "b", "c"]


def test_a_local_steps_session_refuses_it_as_well(place: Place) -> None:
    """R5, I10."""
    caught: list[BaseException] = []

    def write(session: Session) -> None:
        session.add(_new())
        with pytest.raises(ConfigurationError, match="leave commit and rollback") as error:
            session.commit()
        caught.append(error.value)
        raise error.value

    def transfer(op: Any) -> Response:
        op.local(write)
        return Response(201)

    with pytest.raises(Exception, match="in flight"):
        place.call(transfer, "steps")
    assert caught
    assert _counters(place) == ["a", "b"]


def test_what_it_rolls_back_is_gone_and_what_follows_is_limited_again(place: Place) -> None:
    """R11: a new transaction of the session is one of ours, too."""

    def transfer(op: Any) -> Response:
        op.session.add(_new("c"))
        op.session.flush()
        op.session.rollback()
        op.session.add(_new("d"))
        with op.session.begin_nested():
            op.session.add(_new("e"))
        limit = op.session.scalar(sqlalchemy.text("SELECT current_setting('statement_timeout')"))
        return Response(201, limit)

    assert place.call(transfer, "transaction").body == b"13500ms"
    assert _counters(place) == ["a", "b", "d", "e"]


def test_closing_the_session_does_not_lose_what_it_wrote_before_the_commit(place: Place) -> None:
    """R11: else the outcome would be recorded, and the effect gone."""

    def transfer(op: Any) -> Response:
        with op.session as session:
            session.add(_new("c"))
            session.flush()
        return Response(201)

    assert place.call(transfer, "transaction").status == 201
    assert _counters(place) == ["a", "b", "c"]


def test_a_transaction_that_somebody_else_ended_records_nothing(place: Place) -> None:
    """R11: whatever became of its effects, they are apart from the outcome."""

    def transfer(op: Any) -> Response:
        op.session.add(_new("c"))
        op.session.flush()
        op.session.invalidate()
        return Response(201)

    with pytest.raises(ConfigurationError, match="ended the transaction"):
        place.call(transfer, "transaction")
    assert (_counters(place), place.state) == (["a", "b"], State.RELEASED)


def test_a_session_that_would_use_a_second_database_is_refused(place: Place, engine: sqlalchemy.Engine) -> None:
    """D3, R11: when it is made, where its binds say so; else before it writes there."""
    elsewhere = sqlalchemy.create_engine("sqlite://")
    with pytest.raises(ConfigurationError, match="one bind"):
        SQLAlchemyTransactions(sessionmaker(engine, binds={Counter: elsewhere}))

    class Routing(Session):
        def get_bind(self, mapper: Any = None, **others: Any) -> Any:
            return engine if mapper is None else elsewhere

    def add(op: Any) -> Response:
        op.session.add(_new())
        return Response(201)

    place.rebind(SQLAlchemyTransactions(sessionmaker(class_=Routing)))
    with pytest.raises(ConfigurationError, match="second connection"):
        place.call(add, "transaction")
    # Also another connection of the same engine.
    elsewhere = engine.execution_options(logging_token="other")
    with pytest.raises(ConfigurationError, match="second connection"):
        place.call(add, "transaction")
    assert place.state is State.RELEASED
    place.rebind(SQLAlchemyTransactions(sessionmaker()))
    with pytest.raises(ConfigurationError, match="no bind"):
        place.call(add, "transaction")


def test_an_engine_without_transactions_is_refused(place: Place) -> None:
    """R11: each statement would commit on its own."""
    url = f"postgresql+psycopg://{place.url.partition('://')[2]}"
    for engine in (
        sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT"),
        sqlalchemy.create_engine(url).execution_options(isolation_level="AUTOCOMMIT"),
    ):
        with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
            SQLAlchemyTransactions(engine).begin(1.0)
        engine.dispose()


def test_what_is_for_threads_is_told_from_what_is_for_loops(engine: sqlalchemy.Engine) -> None:
    loops = create_async_engine("sqlite+aiosqlite://")
    with pytest.raises(ConfigurationError, match="AsyncSQLAlchemyTransactions"):
        SQLAlchemyTransactions(loops)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="AsyncSQLAlchemyTransactions"):
        SQLAlchemyTransactions(async_sessionmaker(loops))  # type: ignore[arg-type]
    for source in (engine, sessionmaker(engine), scoped_session(sessionmaker(engine))):
        with pytest.raises(ConfigurationError, match="to SQLAlchemyTransactions"):
            AsyncSQLAlchemyTransactions(source)  # type: ignore[arg-type]


def test_a_scoped_session_is_the_one_that_the_application_has_in_hand(place: Place, engine: sqlalchemy.Engine) -> None:
    """R11: as with Flask, whose views use a session of the thread."""
    db = scoped_session(sessionmaker(engine))
    place.rebind(SQLAlchemyTransactions(db))
    # Authentication has read with it before.
    db.execute(sqlalchemy.text("SELECT 1"))

    def add(op: Any) -> Response:
        assert op.session is db()
        db.add(_new())
        return Response(201)

    assert place.call(add, "transaction").status == 201
    assert _counters(place) == ["a", "b", "c"]

    def nested(op: Any) -> Response:
        place.guard.operation("inner", mode="transaction")(add)(key="inner")
        return Response(201)

    with pytest.raises(ConfigurationError, match="inside another one"):
        place.call(nested, "transaction", "nested")
    db.remove()


def test_a_listener_that_raises_after_the_commit_does_not_undo_the_outcome(
    place: Place, engine: sqlalchemy.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """S1, D4."""
    maker = sessionmaker(engine)

    @event.listens_for(maker, "after_commit")
    def fail(session: Session) -> None:
        raise ValueError("no index today")

    def add(op: Any) -> Response:
        op.session.add(_new())
        return Response(201)

    place.rebind(SQLAlchemyTransactions(maker))
    assert place.call(add, "transaction").status == 201
    assert (_counters(place), place.state) == (["a", "b", "c"], State.DONE)
    assert "no index today" in caplog.text


def test_a_listener_that_raises_before_the_commit_has_everything_rolled_back(
    place: Place, engine: sqlalchemy.Engine
) -> None:
    """D4: nothing was sent, which is certain."""
    maker = sessionmaker(engine)

    @event.listens_for(maker, "before_commit")
    def fail(session: Session) -> None:
        raise ValueError("no")

    def add(op: Any) -> Response:
        op.session.add(_new())
        return Response(201)

    place.rebind(SQLAlchemyTransactions(maker))
    with pytest.raises(ValueError, match="no"):
        place.call(add, "transaction")
    assert (_counters(place), place.state) == (["a", "b"], State.RELEASED)


@pytest.mark.parametrize("kind", ["sqlalchemy sqlite", "async sqlalchemy aiosqlite"])
def test_a_commit_that_fails_leaves_no_transaction_open_in_the_pool(kind: str, found: Found) -> None:
    """D4: SQLite keeps the transaction, and with it the lock of the file."""
    place = found(kind)
    place.execute("CREATE TABLE refers (name TEXT REFERENCES counters DEFERRABLE INITIALLY DEFERRED)")

    def enforce(connection: Any, _: object) -> None:
        connection.execute("PRAGMA foreign_keys = ON")

    event.listen(sqlalchemy.pool.Pool, "connect", enforce)
    try:
        for number in range(2):
            transaction = place.begin()
            transaction.insert()
            transaction.execute("INSERT INTO refers VALUES ('nobody')")
            with pytest.raises(sqlalchemy.exc.IntegrityError):
                transaction.commit()
            transaction.rollback()
            assert place.effects == 0
            place.claim(f"free {number}")
    finally:
        event.remove(sqlalchemy.pool.Pool, "connect", enforce)


# Others.


def _add(engine: sqlalchemy.Engine) -> None:
    with Session(engine) as other:
        other.add(_new())
        other.commit()


def _change(engine: sqlalchemy.Engine) -> None:
    with Session(engine) as other:
        other.get_one(Counter, "a").value += 1
        other.commit()


def _delete(engine: sqlalchemy.Engine) -> None:
    with Session(engine) as other:
        other.delete(other.get_one(Counter, "a"))
        other.commit()


def _execute(engine: sqlalchemy.Engine) -> None:
    with Session(engine) as other:
        other.execute(sqlalchemy.insert(Counter).values(name="c", value=1))
        other.commit()


def _core(engine: sqlalchemy.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(INSERT)


def _threaded(engine: sqlalchemy.Engine) -> None:
    """As a framework does with plain functions: with a copy of the context."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(copy_context().run, _add, engine).result(PATIENCE_SECONDS)


OTHERS = [_add, _change, _delete, _execute, _core, _threaded]


@pytest.mark.parametrize("write", OTHERS)
def test_another_session_or_connection_may_not_write_inside_the_operation(
    place: Place, engine: sqlalchemy.Engine, write: Callable[[sqlalchemy.Engine], None]
) -> None:
    """R11: it commits on its own."""

    def careless(op: Any) -> Response:
        op.session.execute(INSERT)
        write(engine)
        return Response(201)

    with pytest.raises(ConfigurationError, match=r"op\.session"):
        place.call(careless, "transaction")
    assert (_counters(place), place.effects, place.state) == (["a", "b"], 0, State.RELEASED)
    assert place.execute("SELECT sum(value) FROM counters") == [(0,)]


@pytest.mark.parametrize("write", [_add, _core])
def test_it_may_where_the_application_wants_it_so(
    place: Place, engine: sqlalchemy.Engine, write: Callable[[sqlalchemy.Engine], None]
) -> None:
    def transfer(op: Any) -> Response:
        write(engine)
        return Response(201)

    place.rebind(SQLAlchemyTransactions(engine, refuse_others=False))
    assert place.call(transfer, "transaction").status == 201


def test_it_may_read(place: Place, engine: sqlalchemy.Engine) -> None:
    """Such as the session with which a dependency has found out who asks, and which commits nothing."""

    def transfer(op: Any) -> Response:
        with Session(engine) as other:
            assert other.get_one(Counter, "a").value == 0
            op.session.execute(INSERT)
            other.commit()
        return Response(201)

    assert place.call(transfer, "transaction").status == 201
    assert place.effects == 1


@pytest.mark.parametrize("mode", ["once", "again", "steps"])
def test_it_may_write_in_any_other_mode_and_outside_of_operations(
    place: Place, engine: sqlalchemy.Engine, mode: str
) -> None:
    def transfer(op: Any) -> Response:
        assert current_operation() is not None
        _add(engine)
        return Response(201)

    assert place.call(transfer, mode).status == 201
    _core(engine)
    _change(engine)
    assert _counters(place) == ["a", "b", "c"]


def test_what_was_read_inside_may_not_be_changed_behind_the_answer(place: Place, engine: sqlalchemy.Engine) -> None:
    """R11: as the end of a FastAPI `yield` dependency does (0.118 and later); what begins behind it, may."""
    opened = Session(engine)
    late: list[Any] = []

    def transfer(op: Any) -> Response:
        found = opened.get_one(Counter, "a")
        found.value += 1
        late.append(copy_context())
        return Response(201)

    assert place.call(transfer, "transaction").status == 201
    [context] = late
    context.run(conclude)
    with pytest.raises(ConfigurationError, match=r"op\.session"):
        context.run(opened.commit)
    opened.close()
    context.run(_change, engine)
    assert place.execute("SELECT value FROM counters WHERE name = 'a'") == [(1,)]


@pytest.mark.parametrize("kind", LOOPS_ON_POSTGRES[2:])
def test_on_event_loops_it_is_the_same(kind: str, found: Found) -> None:
    """R11."""
    place = found(kind)
    assert place.loop is not None
    scheme = "asyncpg" if "asyncpg" in kind else "psycopg"
    engine = create_async_engine(f"postgresql+{scheme}://{place.url.partition('://')[2]}")

    async def other(op: Any) -> Response:
        async with AsyncSession(engine) as session:
            session.add(_new())
            await session.commit()
        return Response(201)

    async def own(op: Any) -> Response:
        op.session.add(_new())
        await op.session.commit()
        return Response(201)

    async def right(op: Any) -> Response:
        op.session.add(_new())
        async with op.session.begin_nested():
            op.session.add(_new("d"))
        return Response(201)

    with pytest.raises(ConfigurationError, match=r"op\.session"):
        place.call(other, "transaction")
    with pytest.raises(ConfigurationError, match="leave commit and rollback"):
        place.call(own, "transaction")
    assert _counters(place) == ["a", "b"]
    assert place.call(right, "transaction").status == 201
    assert _counters(place) == ["a", "b", "c", "d"]
    place.loop.run(engine.dispose())
