"""The verbs of the SQLite store: those that all SQL databases share, over its statements and the host's clock."""

from __future__ import annotations

from functools import cache

from retrysafe.stores.clock import HostClock
from retrysafe.stores.instants import HostInstants
from retrysafe.stores.sql.recovery import SQLVerbs
from retrysafe.stores.sql.statements import Statements


@cache
def statements() -> Statements:
    """Read the ``queries.sql`` files once per process."""
    return Statements("retrysafe.stores.sqlite")


class SQLiteVerbs(SQLVerbs):
    """What the SQLite store can be asked."""

    def __init__(self, clock: HostClock) -> None:
        """Use the host's clock, which all processes share through the file (C2)."""
        super().__init__(statements(), HostInstants(clock))
