"""Every binding: what the application writes and what retrysafe writes are one commit, on real databases."""

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from retrysafe import SHARED, ConfigurationError, InProgress, Policy, Response, RetrySafe, State
from retrysafe.adapters.transactions import consuming
from retrysafe.adapters.transactions.psycopg import AsyncPsycopgTransactions, PsycopgTransactions
from retrysafe.adapters.transactions.sqlalchemy import AsyncSQLAlchemyTransactions, SQLAlchemyTransactions
from retrysafe.adapters.transactions.sqlite3 import SQLite3Transactions
from retrysafe.protocol.operator import Intervention, Verb
from retrysafe.stores.base import Outgoing, Query
from retrysafe.stores.urls import AnyStore, open_store

Work = Callable[[Any], Any]

INSERT = "INSERT INTO effects VALUES ('done')"


class Place:
    """A database that is the store's and the application's."""

    def __init__(self, url: str, binding: Any, insert: Callable[[Any], Any]) -> None:
        self.url, self.insert, self.binding = url, insert, binding
        self.store: AnyStore = open_store(url)
        self.guard = RetrySafe(self.store, principal=SHARED, transactions=binding, scan=None, sinks=())
        self.store.open()
        self.execute("CREATE TABLE effects (what TEXT)")
        self.execute("CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER)")
        self.execute("INSERT INTO counters VALUES ('a', 0)")

    def execute(self, text: str) -> list[Any]:
        if self.url.startswith("sqlite"):
            connection: Any = sqlite3.connect(self.url.removeprefix("sqlite:///"), timeout=30)
        else:
            connection = psycopg.connect(self.url)
        try:
            cursor = connection.execute(text)
            rows = cursor.fetchall() if cursor.description else []
            connection.commit()
            return list(rows)
        finally:
            connection.close()

    @property
    def effects(self) -> int:
        return int(self.execute("SELECT count(*) FROM effects")[0][0])

    @property
    def state(self) -> State:
        [met] = self.store.query(partial(self.store.verbs.listing, Query()))
        return met.state

    @property
    def outbox(self) -> list[str]:
        found: list[Outgoing] = list(self.store.run(partial(self.store.verbs.take_messages, 100, 0.0)))
        return [message.id.partition(":")[2] for message in found]

    def call(self, function: Callable[..., Any], mode: str, key: str = "k", **policy: Any) -> Response:
        guarded = self.guard.operation("transfer", mode=mode, **policy)(function)
        answer = guarded(key=key)
        return asyncio.run(_finish(answer, self.store, self.binding)) if isinstance(answer, Awaitable) else answer


async def _finish(answer: Awaitable[Response], store: Any, binding: Any) -> Response:
    try:
        return await answer
    finally:
        # What belongs to the loop is closed on it.
        if isinstance(binding, AsyncSQLAlchemyTransactions):
            await binding._make.kw["bind"].dispose()
        if isinstance(binding, _LazyAsyncpg):
            await binding.pool.close()
        with suppress(Exception):
            await store.aclose()


_ENGINES: list[sqlalchemy.Engine] = []


def _engine(url: str) -> sqlalchemy.Engine:
    # Without a pool, so that nothing is left open.
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    _ENGINES.append(engine)
    return engine


def _orm(session: Any) -> Any:
    return session.execute(sqlalchemy.text(INSERT))


def _plain(connection: Any) -> Any:
    return connection.execute(INSERT)


BINDINGS = ("sqlite3", "sqlalchemy sqlite", "psycopg", "sqlalchemy psycopg")
ASYNC_BINDINGS = (
    "async psycopg",
    "async sqlalchemy psycopg",
    "async sqlalchemy asyncpg",
    "async sqlalchemy aiosqlite",
    "asyncpg",
)


def _make(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    path = tmp_path / "shop.db"
    if "sqlite" in kind:
        url = f"sqlite:///{path}"
        match kind:
            case "sqlite3":
                return Place(url, SQLite3Transactions(str(path)), _plain)
            case "sqlalchemy sqlite":
                return Place(url, SQLAlchemyTransactions(_engine(url)), _orm)
            case _:
                engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
                return Place(url, AsyncSQLAlchemyTransactions(engine), _orm)
    database: str = request.getfixturevalue("database")
    rest = database.partition("://")[2]
    match kind:
        case "psycopg":
            return Place(database, PsycopgTransactions(database), _plain)
        case "sqlalchemy psycopg":
            engine = _engine(f"postgresql+psycopg://{rest}")
            return Place(database, SQLAlchemyTransactions(engine), _orm)
        case "async psycopg":
            return Place(database, AsyncPsycopgTransactions(database), _plain)
        case "async sqlalchemy psycopg":
            return Place(
                database, AsyncSQLAlchemyTransactions(create_async_engine(f"postgresql+psycopg://{rest}")), _orm
            )
        case "async sqlalchemy asyncpg":
            return Place(
                database, AsyncSQLAlchemyTransactions(create_async_engine(f"postgresql+asyncpg://{rest}")), _orm
            )
        case _:
            return Place(database, _LazyAsyncpg(database), _plain)


class _LazyAsyncpg:
    """A pool belongs to a loop, which is there only inside."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._inner: Any = None

    async def begin(self, limit_seconds: float) -> Any:
        import asyncpg

        from retrysafe.adapters.transactions.asyncpg import AsyncpgTransactions

        self.pool: Any = await asyncpg.create_pool(self._url, min_size=1, max_size=2)
        self._inner = AsyncpgTransactions(self.pool)
        return await self._inner.begin(limit_seconds)

    def conflicted(self, error: BaseException) -> bool:
        return bool(self._inner.conflicted(error))


@pytest.fixture(params=BINDINGS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    made = _make(request.param, tmp_path, request)
    yield made
    made.guard.close()
    _ENGINES.pop().dispose() if _ENGINES else None


@pytest.fixture(params=ASYNC_BINDINGS)
def aplace(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    made = _make(request.param, tmp_path, request)
    yield made
    made.guard.close()


def test_effect_outcome_and_messages_are_one_commit(place: Place) -> None:
    """R11, R12, I10, I11, S1: and a retry gets the answer without another effect."""

    def transfer(op: Any) -> Response:
        place.insert(op.session)
        op.send("moved", {"id": op.id})
        return Response(201, {"ok": True})

    assert place.call(transfer, "transaction").status == 201
    assert place.call(transfer, "transaction").header("Idempotent-Replayed") == "true"
    assert (place.effects, place.state, place.outbox) == (1, State.DONE, ["1"])


def test_on_event_loops_it_is_the_same(aplace: Place) -> None:
    """R11, R12, I10, I11."""

    async def transfer(op: Any) -> Response:
        await aplace.insert(op.session)
        op.send("moved", {"id": op.id})
        return Response(201, {"ok": True})

    assert aplace.call(transfer, "transaction").status == 201
    assert (aplace.effects, aplace.state, aplace.outbox) == (1, State.DONE, ["1"])


def test_on_event_loops_a_local_step_is_one_commit_with_its_memo(aplace: Place) -> None:
    """R5, I10."""

    async def write(handle: Any) -> str:
        await aplace.insert(handle)
        return "written"

    async def transfer(op: Any) -> Response:
        await op.local(write)
        raise ConnectionError

    with pytest.raises(InProgress):
        aplace.call(transfer, "steps")
    assert aplace.effects == 1


def test_what_raises_or_says_that_nothing_was_done_leaves_nothing(place: Place) -> None:
    """S3, and the table of modes: rolled back and released."""

    def failing(op: Any) -> Response:
        place.insert(op.session)
        op.send("moved", {})
        raise ValueError("no")

    def refusing(op: Any) -> Response:
        place.insert(op.session)
        return Response(409, {"error": "no"})

    with pytest.raises(ValueError, match="no"):
        place.call(failing, "transaction")
    assert place.call(refusing, "transaction").status == 409
    assert (place.effects, place.state, place.outbox) == (0, State.RELEASED, [])


def test_a_definite_refusal_commits_and_is_recorded(place: Place) -> None:
    """S3: any other 4xx."""

    def refused(op: Any) -> Response:
        place.insert(op.session)
        return Response(422, {"error": "no"})

    assert place.call(refused, "transaction").status == 422
    assert (place.effects, place.state) == (1, State.DONE)


def test_an_attempt_that_was_taken_over_commits_nothing(place: Place) -> None:
    """C4, R11: the fence is compared last, in the transaction itself."""

    def overtaken(op: Any) -> Response:
        if op.attempt == 1:
            [met] = place.store.query(partial(place.store.verbs.listing, Query()))
            place.store.run(partial(place.store.verbs.hand_over, [met.claim(1.0)]))
            [seen] = place.store.query(partial(place.store.verbs.abandoned, 1))
            released = Intervention(Verb.RELEASE, "alice", "a test")
            place.store.run(partial(place.store.verbs.intervene, seen, released))
        place.insert(op.session)
        return Response(201)

    with pytest.raises(Exception, match="lost its claim"):
        place.call(overtaken, "transaction")
    assert (place.effects, place.state) == (0, State.RELEASED)


def test_a_local_step_is_one_commit_with_its_memo(place: Place) -> None:
    """R5, I10, I11: a later attempt does not do it again, and its message is there once."""

    def write(handle: Any, what: str) -> str:
        place.insert(handle)
        return what

    seen: list[str] = []

    def transfer(op: Any) -> Response:
        def told(handle: Any, what: str) -> str:
            op.send("written", what)
            return write(handle, what)

        seen.append(op.local(told, "once", name="write"))
        if op.attempt == 1:
            raise ConnectionError
        return Response(201)

    with pytest.raises(InProgress):
        place.call(transfer, "steps")
    assert (place.effects, place.outbox) == (1, ["1"])
    [met] = place.store.query(partial(place.store.verbs.listing, Query()))
    place.store.run(partial(place.store.verbs.intervene, met, Intervention(Verb.RESUME, "alice", "a test")))
    assert place.call(transfer, "steps").status == 201
    assert (seen, place.effects, place.outbox) == (["once", "once"], 1, ["1"])


def test_a_local_step_that_raises_leaves_nothing(place: Place) -> None:
    """R5, I10."""

    def write(handle: Any) -> None:
        place.insert(handle)
        raise ConnectionError

    def transfer(op: Any) -> Response:
        op.local(write)
        return Response(201)

    with pytest.raises(InProgress):
        place.call(transfer, "steps")
    assert place.effects == 0


@pytest.mark.parametrize("place", ["psycopg", "sqlalchemy psycopg"], indirect=True)
def test_a_serialization_failure_runs_again_inside_the_claim(place: Place) -> None:
    """R11: the client of the loser gets its answer all the same."""
    met, runs = threading.Barrier(2, timeout=30), []

    def add(op: Any) -> Response:
        execute = op.session.execute
        text: Callable[[str], Any] = sqlalchemy.text if isinstance(op.session, Session) else str
        execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")) if not runs_set(op) else None
        [[value]] = execute(text("SELECT value FROM counters")).fetchall()
        runs.append(op.id)
        if len(runs) <= 2:
            met.wait()
        execute(text(f"UPDATE counters SET value = {value + 1}"))  # noqa: S608 - a number of ours
        return Response(201)

    def runs_set(op: Any) -> bool:
        # The binding's own statement came first, so that the level can't be set any more: it is the session's default.
        return True

    place.execute(
        f"ALTER DATABASE {place.url.rpartition('/')[2]} SET default_transaction_isolation = 'repeatable read'"
    )
    answers: list[Response] = []
    threads = [
        threading.Thread(target=lambda key=key: answers.append(place.call(add, "transaction", key)))
        for key in ("a", "b")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [answer.status for answer in answers] == [201, 201]
    assert place.execute("SELECT value FROM counters") == [(2,)]
    assert len(runs) >= 3


def test_a_consumer_drops_repeats_in_its_own_transaction(place: Place) -> None:
    """R12: noted if and only if what it did is durable."""
    binding: Any = place.guard.local_engine().transactions._plain
    for expected, keep in ((True, False), (True, True), (False, True)):
        transaction = binding.begin(10.0)
        assert consuming.first_time(transaction, "operation:1") is expected
        transaction.commit() if keep else transaction.rollback()


def test_a_call_that_was_undone_before_it_came_is_refused(place: Place) -> None:
    """R7: the barrier, in every order."""
    binding: Any = place.guard.local_engine().transactions._plain

    def passes(**headers: str) -> str:
        transaction = binding.begin(10.0)
        passage = consuming.barrier(transaction, {name.replace("_", "-"): value for name, value in headers.items()})
        transaction.commit()
        return str(passage)

    forward, undo = {"Idempotency_Key": "f"}, {"Idempotency_Key": "u", "Idempotency_Undoes": "f"}
    assert [passes(**call) for call in (forward, forward, undo, undo, forward)] == [
        "apply",
        "repeated",
        "apply",
        "repeated",
        "refused",
    ]
    early, late = {"Idempotency_Key": "u2", "Idempotency_Undoes": "f2"}, {"Idempotency_Key": "f2"}
    assert [passes(**call) for call in (early, late)] == ["nothing to undo", "refused"]


@pytest.mark.parametrize("place", ["sqlalchemy sqlite"], indirect=True)
def test_another_session_may_not_commit_inside_the_operation(place: Place, tmp_path: Path) -> None:
    """R11: as the session of a FastAPI `yield` dependency would, after the response has left."""
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

    class Base(DeclarativeBase):
        pass

    class Counter(Base):
        __tablename__ = "counters"
        name: Mapped[str] = mapped_column(primary_key=True)
        value: Mapped[int]

    engine = _engine(place.url)

    def careless(op: Any) -> Response:
        with sessionmaker(engine)() as other:
            other.add(Counter(name="b", value=1))
            other.commit()
        return Response(201)

    with pytest.raises(ConfigurationError, match=r"op\.session"):
        place.call(careless, "transaction")
    assert place.execute("SELECT count(*) FROM counters") == [(1,)]


def test_without_a_binding_the_fix_is_named(tmp_path: Path) -> None:
    guard = RetrySafe(f"sqlite:///{tmp_path}/a.db", principal=SHARED, scan=None, sinks=())
    transfer = guard.operation("transfer", policy=Policy(mode="transaction"))(lambda op: Response(201))
    with pytest.raises(ConfigurationError, match=r"transactions="):
        transfer(key="k")
    guard.close()
