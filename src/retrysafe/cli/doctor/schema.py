"""Whether a store's tables are what this code needs; asked of every database alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from retrysafe.cli.doctor.findings import Finding, Level
from retrysafe.errors import RetrySafeError, SchemaMismatch
from retrysafe.http.codes import code_of

if TYPE_CHECKING:
    from retrysafe.stores.sql.migrations import Migration


def schema_check(pending: Callable[[], Sequence[Migration]], newest: int, url: str) -> Finding:
    """Compare a store's tables with what this code knows.

    Args:
        pending: tells which migrations the store lacks.
        newest: number of the newest migration of this code.
        url: of the store, without its password.
    """
    try:
        lacking = pending()
    except SchemaMismatch as error:
        text = f"version {error.found}, and this code knows only {error.needed}"
        return Finding(Level.FAIL, "schema", text, "upgrade retrysafe here to what the service runs")
    except RetrySafeError as error:
        return Finding(Level.FAIL, "reachable", str(error), code_of(error).fix)
    if lacking:
        text = f"version {lacking[0].number - 1}, and this code needs {newest}"
        return Finding(Level.FAIL, "schema", text, f"retrysafe migrate {url}")
    return Finding(Level.OK, "schema", f"version {newest}")
