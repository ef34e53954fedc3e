"""Whether a store may be written into for a test: only if it was never used, or its owner says that it is scratch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from retrysafe.cli.complaints import Complaint, Misuse
from retrysafe.cli.opening import mysql_database, named, postgres_database, shown, sqlite_file
from retrysafe.errors import ConfigurationError, RetrySafeError, SchemaMismatch
from retrysafe.stores.base import Capability, Query
from retrysafe.stores.program import Factory
from retrysafe.stores.urls import AnyStore, open_store


@runtime_checkable
class Telling(Protocol):
    """A store that can tell whether it was ever made, without making it."""

    def is_made(self) -> bool:
        """Tell whether what every such store begins with is there: a key, a stream, a table; make nothing.

        Raises:
            StoreUnavailable: nobody can tell.
        """
        ...


def writable(store_url: str, *, scratch: bool, emptied: bool = False) -> AnyStore:
    """Make the store that a URL names, if nobody's operations are in it.

    Looking changes no table of a store of ours, and makes nothing. A store that has never been opened is empty.

    Args:
        store_url: names the store.
        scratch: whether its owner says that it may be used.
        emptied: whether nothing in it will survive: then it must not even have been made, as far as that can be told.
            A service may have it open, with no operation just now.

    Raises:
        Complaint: it was used before, is of another version, or cannot be reached.
        Misuse: the URL is wrong.
    """
    if not scratch and (there := _what_is_there(store_url, emptied=emptied)) is not None:
        raise Complaint(
            f"this store was used before: {there}",
            where=shown(store_url),
            fixes=[
                "use a new store" if emptied else "use an empty store",
                "add --scratch, if nobody needs what is in it",
            ],
        )
    try:
        return open_store(store_url)
    except ConfigurationError as error:
        raise Misuse.about(error, where=shown(store_url)) from error
    except ImportError as error:
        raise Misuse("a driver is missing", where=shown(store_url), facts=[str(error)]) from error


def _what_is_there(store_url: str, *, emptied: bool) -> str | None:
    if store_url.lower().startswith("memory:"):
        return None
    store = named(store_url)
    file = sqlite_file(store)
    if file is not None and not Path(file.path).exists():
        return None
    try:
        made = _is_made(store)
        if made is False:
            return None
        if found := _first_found(store):
            return f"there are {found} in it"
        return "it is empty, and a service may have it open" if made and emptied else None
    except SchemaMismatch as error:
        if not error.found:
            return None
        raise Complaint.about(error, where=shown(store_url)) from error
    except RetrySafeError as error:
        raise Complaint.about(error, where=shown(store_url)) from error


def _is_made(store: AnyStore) -> bool | None:
    """Tell whether a store has been opened before; None where it can't be told."""
    if isinstance(store, Telling):
        try:
            return store.is_made()
        finally:
            store.close()
    # These are forbidden to make their tables here: opening them fails where there are none.
    return any(look(store) for look in (sqlite_file, postgres_database, mysql_database)) or None


def _first_found(store: AnyStore) -> str | None:
    verbs = store.verbs
    # In this order: taking messages is a write, though for no time, and is not done to a store that is in use.
    looks: dict[str, Factory[Sequence[Any]]] = {
        "operations": partial(verbs.listing, Query(limit=1)),
        "lines of an audit": partial(verbs.audit, None, 1),
        "messages": partial(verbs.take_messages, 1, 0.0),
    }
    if Capability.SYNC not in store.traits.capabilities:
        return asyncio.run(_afirst_found(store, looks))
    try:
        store.open()
        return next((what for what, look in looks.items() if store.run(look)), None)
    finally:
        store.close()


async def _afirst_found(store: AnyStore, looks: dict[str, Factory[Sequence[Any]]]) -> str | None:
    try:
        await store.aopen()
        for what, look in looks.items():
            if await store.arun(look):
                return what
    finally:
        await store.aclose()
    return None
