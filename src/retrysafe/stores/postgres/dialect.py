"""The verbs of the PostgreSQL store: what all SQL databases share, over its statements and the server's clock."""

from __future__ import annotations

from functools import cache

from retrysafe.stores.instants import Instants
from retrysafe.stores.program import Program, Statement
from retrysafe.stores.sql.recovery import SQLVerbs
from retrysafe.stores.sql.statements import Statements


@cache
def statements() -> Statements:
    """Read the ``queries.sql`` files once per process."""
    return Statements("retrysafe.stores.postgres")


class PostgresVerbs(SQLVerbs):
    """What the PostgreSQL store can be asked."""

    def __init__(self, instants: Instants | None = None) -> None:
        """Use the server's clock (C2), or, in a test, another one."""
        super().__init__(statements(), instants or _ServerInstants())


class _ServerInstants:
    """The server's clock, asked inside each transaction; skew between application hosts changes nothing (C2)."""

    def now(self) -> Program[float]:
        """Return the store's time."""
        answer = yield Statement(statements()["now"])
        [(now,)] = answer.rows
        return float(now)
