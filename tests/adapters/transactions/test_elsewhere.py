"""A binding that leads to another database than the store is refused, whatever its tables."""

from pathlib import Path

import pytest

from retrysafe import SHARED, ConfigurationError, Response, RetrySafe, SyncOperation
from retrysafe.adapters.transactions.sqlite3 import SQLite3Transactions
from retrysafe.stores.sqlite import SQLiteStore


@pytest.mark.parametrize("is_a_store", [True, False], ids=["another store", "no store"])
def test_another_database_is_refused_before_anything_is_written(tmp_path: Path, is_a_store: bool) -> None:
    """D3, R11: it could not be one commit."""
    other = tmp_path / "other.db"
    if is_a_store:
        store = SQLiteStore(other)
        store.open()
        store.close()
    guard = RetrySafe(
        f"sqlite:///{tmp_path}/shop.db",
        principal=SHARED,
        transactions=SQLite3Transactions(str(other)),
        scan=None,
        sinks=(),
    )
    ran: list[str] = []

    @guard.operation("transfer", mode="transaction")
    def transfer(op: SyncOperation) -> Response:
        ran.append(op.id)
        return Response(201)

    with pytest.raises(ConfigurationError, match="another database"):
        transfer(key="k")
    assert ran == []
    guard.close()
