"""Commits whose answer is lost: read back by operation and fence, and told as they are."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from retrysafe import SHARED, InProgress, Response, RetrySafe, State, StoreUnavailable, SyncOperation
from retrysafe.adapters.transactions.sqlite3 import SQLite3Transaction, SQLite3Transactions
from retrysafe.protocol.operator import Intervention, Verb
from retrysafe.runtime.transactions import CommitUnknown
from retrysafe.stores.base import Query
from retrysafe.stores.sqlite import SQLiteStore


class Cut(SQLite3Transactions):
    """A connection that dies during the commit: before it is durable, or after it."""

    def __init__(self, path: str, *, durable: bool) -> None:
        super().__init__(path)
        self.cuts, self._durable = 1, durable

    def begin(self, limit_seconds: float) -> Any:
        open_ = super().begin(limit_seconds)
        return _Cut(open_, self, durable=self._durable)


class _Cut:
    def __init__(self, open_: SQLite3Transaction, place: Cut, *, durable: bool) -> None:
        self.handle = open_.handle
        self.run, self.rollback = open_.run, open_.rollback
        self._open, self._place, self._durable = open_, place, durable

    def commit(self) -> None:
        if self._place.cuts == 0:
            self._open.commit()
            return
        self._place.cuts -= 1
        if self._durable:
            self._open.commit()
        else:
            self._open.rollback()
        raise CommitUnknown


@pytest.fixture(params=[True, False], ids=["durable", "lost"])
def durable(request: pytest.FixtureRequest) -> bool:
    found: bool = request.param
    return found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    made = SQLiteStore(tmp_path / "shop.db")
    made.open()
    yield made
    made.close()


def _guard(store: SQLiteStore, *, durable: bool) -> RetrySafe:
    made = RetrySafe(store, principal=SHARED, transactions=Cut(str(store.path), durable=durable), scan=None, sinks=())
    made.engine()
    cursor = SQLite3Transactions(str(store.path)).begin(1.0)
    cursor.handle.execute("CREATE TABLE effects (what TEXT)")
    cursor.commit()
    return made


def _effects(store: SQLiteStore) -> int:
    open_ = SQLite3Transactions(str(store.path)).begin(1.0)
    [[count]] = open_.handle.execute("SELECT count(*) FROM effects").fetchall()
    open_.rollback()
    return int(count)


def test_the_operation_s_commit_is_read_back(store: SQLiteStore, durable: bool) -> None:
    """D4, R11: the answer if it is durable; else nothing happened, and the retry runs."""
    guard = _guard(store, durable=durable)

    @guard.operation("transfer", mode="transaction")
    def transfer(op: SyncOperation) -> Response:
        op.session.execute("INSERT INTO effects VALUES ('done')")
        return Response(201, {"attempt": op.attempt})

    if durable:
        assert transfer(key="k").status == 201
    else:
        with pytest.raises(StoreUnavailable, match="nothing happened"):
            transfer(key="k")
        assert _effects(store) == 0
    assert transfer(key="k").status == 201
    assert _effects(store) == 1


def test_a_local_step_s_commit_is_read_back(store: SQLiteStore, durable: bool) -> None:
    """D4, R5, I10: its memo tells whether its effect is there."""
    guard = _guard(store, durable=durable)

    def write(handle: Any) -> str:
        handle.execute("INSERT INTO effects VALUES ('done')")
        return "written"

    @guard.operation("transfer", mode="steps")
    def transfer(op: SyncOperation) -> Response:
        return Response(201, op.local(write))

    if not durable:
        with pytest.raises(InProgress):
            transfer(key="k")
        [met] = store.query(partial(store.verbs.listing, Query()))
        assert (met.state, _effects(store)) == (State.RUNNING, 0)
        store.run(partial(store.verbs.intervene, met, Intervention(Verb.RESUME, "alice", "a test")))
    assert transfer(key="k").status == 201
    assert _effects(store) == 1
