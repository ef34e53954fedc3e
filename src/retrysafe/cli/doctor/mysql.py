"""Checks of a MySQL or MariaDB server and of the store's tables in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from retrysafe.cli.doctor.findings import Finding, Level
from retrysafe.cli.doctor.schema import schema_check
from retrysafe.errors import RetrySafeError
from retrysafe.http.codes import code_of
from retrysafe.stores.mysql import MySQLStore
from retrysafe.stores.mysql.connect import is_mariadb
from retrysafe.stores.mysql.schema import migrations, pending
from retrysafe.stores.program import Program, Statement

_ASKED = ("version", "innodb_flush_log_at_trx_commit", "sync_binlog", "log_bin", "max_allowed_packet")
# An outcome of the default largest size, beside what else is in its statement, and written as hexadecimal.
_LEAST_PACKET_BYTES = 4 * 2**20


def mysql_checks(store: MySQLStore, url: str) -> Iterator[Finding]:
    """Look at the tables and at what the server promises; a failure means that it cannot be used."""
    schema = schema_check(partial(pending, store.settings), migrations()[-1].number, url)
    yield schema
    if schema.level is Level.FAIL:
        return
    try:
        found = store.query(_variables)
    except RetrySafeError as error:
        yield Finding(Level.FAIL, "reachable", str(error), code_of(error).fix)
        return
    finally:
        store.close()
    yield Finding(Level.OK, "mariadb" if is_mariadb(found["version"]) else "mysql", str(found["version"]))
    yield _commit(found)
    yield _binary_log(found)
    yield _packet(int(found["max_allowed_packet"]))


def _variables() -> Program[Mapping[str, Any]]:
    answer = yield Statement(f"SELECT {', '.join(f'@@GLOBAL.{name}' for name in _ASKED)}")
    return dict(zip(_ASKED, answer.rows[0], strict=True))


def _commit(found: Mapping[str, Any]) -> Finding:
    flush = int(found["innodb_flush_log_at_trx_commit"])
    if flush in {1, 3}:
        return Finding(Level.OK, "commit", "waits for its own disk")
    text = (
        f"innodb_flush_log_at_trx_commit is {flush}: power loss may cost the latest writes, and their operations then "
        "run twice"
    )
    return Finding(Level.WARN, "commit", text, "SET GLOBAL innodb_flush_log_at_trx_commit = 1, and in its my.cnf")


def _binary_log(found: Mapping[str, Any]) -> Finding:
    if not int(found["log_bin"]):
        return Finding(Level.OK, "binary log", "off")
    if int(found["sync_binlog"]) == 1:
        return Finding(Level.OK, "binary log", "is synced with each commit")
    text = (
        f"sync_binlog is {found['sync_binlog']}: after power loss the binary log may lack the latest writes, and with "
        "it each replica"
    )
    return Finding(Level.WARN, "binary log", text, "SET GLOBAL sync_binlog = 1, and in its my.cnf")


def _packet(most_bytes: int) -> Finding:
    text = f"a statement may have {most_bytes // 2**20} MiB"
    if most_bytes >= _LEAST_PACKET_BYTES:
        return Finding(Level.OK, "packet", text)
    fix = "SET GLOBAL max_allowed_packet = 16777216, and in its my.cnf"
    return Finding(Level.WARN, "packet", f"{text}: larger outcomes are refused", fix)
