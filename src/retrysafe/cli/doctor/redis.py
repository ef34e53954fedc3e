"""Checks of a Redis or Valkey server: what it keeps, what it drops, and whether that is what was declared."""

from __future__ import annotations

from collections.abc import Iterator

from retrysafe.cli.doctor.findings import Finding, Level
from retrysafe.errors import RetrySafeError
from retrysafe.http.codes import code_of
from retrysafe.stores.redis import Persistence, RedisStore
from retrysafe.stores.redis.server import Facts, problems

_KEEPS = {
    Persistence.NONE: "no append-only file, or one that it never syncs: with the server goes what was acknowledged",
    Persistence.EVERYSEC: "an append-only file, synced once a second",
    Persistence.ALWAYS: "an append-only file, synced with each write",
}


def server_checks(store: RedisStore) -> Iterator[Finding]:
    """Look at what the server says about itself; a failure means that it can't be used."""
    try:
        found = store.facts()
    except RetrySafeError as error:
        yield Finding(Level.FAIL, "reachable", str(error), code_of(error).fix)
        return
    finally:
        store.close()
    if found is None:
        text = "INFO is forbidden to this user, so that what was declared can't be checked"
        yield Finding(Level.WARN, "redis", text, "ACL SETUSER ... +info +config|get")
        return
    yield Finding(Level.OK, "redis", f"{found.version}, {found.replicas} replica(s)")
    wrong = problems(found, store.persistence, cluster=store.is_cluster)
    for problem in wrong:
        yield Finding(Level.FAIL, "usable", problem, None)
    if not wrong:
        yield _persistence(found, store.persistence)


def _persistence(found: Facts, declared: Persistence) -> Finding:
    kept = found.persistence
    if kept is None:
        text = f"persistence={declared} is declared; CONFIG is forbidden to this user, so that nobody can check it"
        return Finding(Level.INFO, "persistence", text, "ACL SETUSER ... +config|get")
    if kept is Persistence.ALWAYS and declared is Persistence.ALWAYS:
        return Finding(Level.OK, "persistence", _KEEPS[kept])
    if kept is not declared:
        return Finding(Level.INFO, "persistence", f"{_KEEPS[kept]}, and less is declared", f"add ?persistence={kept}")
    return Finding(Level.WARN, "persistence", _KEEPS[kept], "CONFIG SET appendonly yes, and appendfsync always")
