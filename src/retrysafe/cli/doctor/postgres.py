"""Checks of a PostgreSQL server and of the store's tables in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from types import MappingProxyType

from retrysafe.cli.doctor.findings import Finding, Level
from retrysafe.cli.doctor.schema import schema_check
from retrysafe.errors import RetrySafeError
from retrysafe.http.codes import code_of
from retrysafe.stores.postgres import PostgresStore
from retrysafe.stores.postgres.schema import migrations, pending
from retrysafe.stores.program import Program, Statement

_ASKED = ("server_version", "fsync", "synchronous_commit", "synchronous_standby_names", "server_encoding")
_WAITS_FOR = MappingProxyType(
    {
        "local": "for its own disk",
        "remote_write": "for the memory of a standby",
        "on": "for the disk of a standby",
        "remote_apply": "for a standby that has applied it",
    }
)


def server_checks(store: PostgresStore, url: str) -> Iterator[Finding]:
    """Look at the tables and at what the server promises; a failure means that it cannot be used."""
    schema = schema_check(partial(pending, store.settings), migrations()[-1].number, url)
    yield schema
    if schema.level is Level.FAIL:
        return
    try:
        settings = store.query(_settings)
    except RetrySafeError as error:
        yield Finding(Level.FAIL, "reachable", str(error), code_of(error).fix)
        return
    finally:
        store.close()
    yield Finding(Level.OK, "postgresql", settings["server_version"])
    yield _commit(settings)
    yield _encoding(settings["server_encoding"])


def _settings() -> Program[Mapping[str, str]]:
    answer = yield Statement(f"SELECT {', '.join(f'current_setting({name!r})' for name in _ASKED)}")
    return dict(zip(_ASKED, answer.rows[0], strict=True))


def _commit(settings: Mapping[str, str]) -> Finding:
    waits = settings["synchronous_commit"]
    if settings["fsync"] == "off":
        text = "fsync is off: power loss may damage the whole database"
        return Finding(Level.WARN, "commit", text, "set fsync = on; off is for tests")
    if waits == "off":
        text = "synchronous_commit is off: power loss may cost the latest writes, and their operations then run twice"
        return Finding(Level.WARN, "commit", text, "ALTER ROLE ... SET synchronous_commit = on, for the store's role")
    alone = waits == "local" or not settings["synchronous_standby_names"]
    return Finding(Level.OK, "commit", f"waits {_WAITS_FOR['local' if alone else waits]}")


def _encoding(encoding: str) -> Finding:
    if encoding == "UTF8":
        return Finding(Level.OK, "encoding", encoding)
    text = f"{encoding}: a name or a reason that it cannot write makes the store refuse the operation"
    return Finding(Level.WARN, "encoding", text, "use a database made with ENCODING 'UTF8'")
