"""Checks of a store that ask nothing but what every store can answer."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial

from retrysafe.cli.complaints import Complaint
from retrysafe.cli.doctor.findings import Finding, Level
from retrysafe.cli.opening import mysql_database, named, opened, postgres_database, redis_server, shown, sqlite_file
from retrysafe.cli.operations import is_abandoned
from retrysafe.cli.words import counted, duration
from retrysafe.errors import RetrySafeError
from retrysafe.http.codes import code_of
from retrysafe.protocol.model import Checkpoint
from retrysafe.protocol.states import LEASED, State
from retrysafe.stores.base import Clock, Durability, Query, Store
from retrysafe.stores.urls import AnyStore

_COUNTED = 1000
_SLOW_SECONDS = 0.05
_SKEW_SECONDS = 5.0
_LEFT_ALONE_SECONDS = 60.0
_WHOSE = {
    Clock.SERVER: "the database server's",
    Clock.HOST: "by a clock that all processes of the host share",
    Clock.MARGIN: "each process's own, with a margin",
}

_DURABLE = {
    "sqlite": "leave out synchronous=normal",
    "nats": "set sync_interval: always in the server's jetstream block and say synced=true, or use replicas=3",
}


def store_checks(store_url: str) -> Iterator[Finding]:
    """Look at a store, from the file up.

    Raises:
        Complaint: the URL is wrong, or names a store that nobody can look into from outside.
    """
    ready = True
    for finding in _own_checks(named(store_url), shown(store_url)):
        ready = ready and finding.level is not Level.FAIL
        yield finding
    if not ready:
        return
    try:
        with opened(store_url) as store:
            yield from _opened_checks(store, shown(store_url))
    except Complaint as complaint:
        cause = complaint.__cause__
        fix = code_of(cause).fix if isinstance(cause, RetrySafeError) else None
        yield Finding(Level.FAIL, "reachable", complaint.message, fix)


def _own_checks(store: AnyStore, url: str) -> Iterator[Finding]:
    """Look at what only one kind of store has; a failure means that it can't be used."""
    file, database, server = sqlite_file(store), postgres_database(store), redis_server(store)
    mysql = mysql_database(store)
    if file is not None:
        from retrysafe.cli.doctor.sqlite import file_checks  # noqa: PLC0415 - it loads the driver

        yield from file_checks(file, url)
    if database is not None:
        from retrysafe.cli.doctor.postgres import server_checks  # noqa: PLC0415 - as above

        yield from server_checks(database, url)
    if mysql is not None:
        from retrysafe.cli.doctor.mysql import mysql_checks  # noqa: PLC0415 - as above

        yield from mysql_checks(mysql, url)
    if server is not None:
        from retrysafe.cli.doctor import redis  # noqa: PLC0415 - as above

        yield from redis.server_checks(server)


def _opened_checks(store: Store, url: str) -> Iterator[Finding]:
    begun = time.perf_counter()
    store.run(partial(store.verbs.hand_over, ()))
    took = time.perf_counter() - begun
    slow = took > _SLOW_SECONDS
    fix = "look at the load of the machine, and for long transactions of other processes" if slow else None
    yield Finding(
        Level.WARN if slow else Level.OK, "writable", f"an empty transaction was committed in {duration(took)}", fix
    )
    yield _durability(store)
    yield from _clock(store)
    yield from _open_operations(store, url)


def _durability(store: Store) -> Finding:
    match store.traits.durability:
        case Durability.PROCESS:
            fix = _DURABLE.get(store.traits.name, "use a store that survives power loss")
            text = "an acknowledged write may be lost with the power, and its operation then runs twice"
            return Finding(Level.WARN, "durability", text, fix)
        case Durability.PERIODIC:
            text = "power loss may cost the writes of the latest second or two, and their operations then run twice"
            return Finding(Level.WARN, "durability", text, "CONFIG SET appendfsync always, and persistence=always")
        case Durability.REPLICATED:
            text = "replicated asynchronously: a failover may lose the latest writes, and their operations run twice"
            return Finding(
                Level.WARN, "durability", text, "wait for a replica with each commit, or accept it knowingly"
            )
        case Durability.NODE:
            return Finding(Level.OK, "durability", "an acknowledged write survives power loss of its node")
        case Durability.QUORUM:
            return Finding(Level.OK, "durability", "an acknowledged write survives the loss of any one node")


def _clock(store: Store) -> Iterator[Finding]:
    whose = f"instants are {_WHOSE[store.traits.clock]}"
    newest = store.query(partial(store.verbs.listing, Query(limit=1)))
    if not newest:
        yield Finding(Level.INFO, "clock", f"{whose}; they can be compared with this host's once there is an operation")
        return
    skew = newest[0].now - time.time()
    if abs(skew) < _SKEW_SECONDS:
        yield Finding(Level.OK, "clock", f"{whose}, and agree with this host's")
        return
    side = "ahead of" if skew > 0 else "behind"
    yield Finding(
        Level.WARN,
        "clock",
        f"{whose}, {duration(skew)} {side} this host's clock: leases are right all the same, shown instants are not",
        "set this host's clock by NTP; a store's clock that was ahead stays there, because it never runs back",
    )


def _open_operations(store: Store, url: str) -> Iterator[Finding]:
    leased = store.query(partial(store.verbs.listing, Query(states=LEASED, limit=_COUNTED)))
    abandoned = [seen for seen in leased if is_abandoned(seen)]
    yield Finding(Level.OK, "in flight", _number(len(leased) - len(abandoned), len(leased)))
    yield _abandoned(abandoned, len(leased), url)
    parked = store.query(partial(store.verbs.listing, Query(states=frozenset({State.PARKED}), limit=_COUNTED)))
    if parked:
        text = f"{_number(len(parked), len(parked))}, outcome unknown: nothing is run again by itself"
        yield Finding(Level.WARN, "parked", text, f"retrysafe ops ls {url} --parked")
    else:
        yield Finding(Level.OK, "parked", _number(0, 0))


def _abandoned(abandoned: Sequence[Checkpoint], looked_at: int, url: str) -> Finding:
    number = _number(len(abandoned), looked_at)
    waiting = max((min(-seen.lease_remaining_seconds, seen.now - seen.due_at) for seen in abandoned), default=0.0)
    if waiting <= _LEFT_ALONE_SECONDS:
        return Finding(Level.INFO if abandoned else Level.OK, "abandoned", number)
    return Finding(
        Level.WARN,
        "abandoned",
        f"{number}, due for {duration(waiting)}: no process takes them over",
        f"serve with scan on, and with restore_principal for mode again; see retrysafe ops ls {url} --abandoned",
    )


def _number(found: int, looked_at: int) -> str:
    """Say a count; when not everything was looked at it is the least."""
    return f"{'at least ' if looked_at >= _COUNTED else ''}{counted(found, 'operation')}"
