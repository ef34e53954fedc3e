"""Stores by URL: ``memory://``, ``sqlite:///orders.db``, and whatever other packages bring.

A scheme is looked up among ours first and then in the entry-point group ``retrysafe.stores``; either names a function
that takes the whole URL and returns a store.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Protocol, cast, runtime_checkable
from urllib.parse import parse_qsl

from retrysafe.errors import ConfigurationError
from retrysafe.stores.base import AsyncStore, Store

_GROUP = "retrysafe.stores"
# Found without the list of installed packages, which takes longer to read than everything else here to import.
_OURS = {
    "memory": "retrysafe.stores.memory",
    "sqlite": "retrysafe.stores.sqlite",
    "postgresql": "retrysafe.stores.postgres",
    "postgres": "retrysafe.stores.postgres",
    "mysql": "retrysafe.stores.mysql",
    "mariadb": "retrysafe.stores.mysql",
    "nats": "retrysafe.stores.nats",
    "tls": "retrysafe.stores.nats",
    "redis": "retrysafe.stores.redis",
    "rediss": "retrysafe.stores.redis",
    "valkey": "retrysafe.stores.redis",
    "valkeys": "retrysafe.stores.redis",
    "redis+sentinel": "retrysafe.stores.redis",
    "rediss+sentinel": "retrysafe.stores.redis",
    "redis+cluster": "retrysafe.stores.redis",
    "rediss+cluster": "retrysafe.stores.redis",
}

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_NAME = re.compile(r"[A-Za-z_-]+")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class AnyStore(Store, AsyncStore, Protocol):
    """A store for threads and for event loops."""


@runtime_checkable
class Clocked(Protocol):
    """A store that a test can put on a clock of its own, so that days pass at once."""

    def with_clock(self, wall: Callable[[], float]) -> AnyStore:
        """Return a store in the same place, not open yet, whose instants are those of a wall clock in this process.

        It stands for the one clock that all processes share, so no margin is added to leases. It may be set back, and
        the store's instants never are: :class:`~retrysafe.stores.clock.HostClock` sees to that (C2).

        Args:
            wall: the clock, in seconds since the epoch.
        """
        ...


def open_store(url: str) -> AnyStore:
    """Make the store that a URL names. Nothing is connected yet: that is :meth:`~retrysafe.stores.base.Store.open`.

    Args:
        url: such as ``memory://`` or ``sqlite:////var/lib/shop/retrysafe.db?busy_timeout=2s``. It may hold a password,
            so no message repeats it.

    Raises:
        ConfigurationError: nobody knows the scheme, or the rest of the URL is wrong; every problem is listed.
    """
    begin = _SCHEME.match(url)
    if begin is None:
        raise ConfigurationError(["a store's URL begins with its scheme: write memory:// or sqlite:///orders.db"])
    return _factory(begin[1].lower())(url)


def _factory(scheme: str) -> Callable[[str], AnyStore]:
    if scheme in _OURS:
        return cast(Callable[[str], AnyStore], import_module(_OURS[scheme]).from_url)
    from importlib.metadata import entry_points  # noqa: PLC0415 - dear, and needed for foreign stores only

    found = {entry.name: entry for entry in entry_points(group=_GROUP)}
    if scheme not in found:
        raise ConfigurationError([unknown("store scheme", scheme, found.keys() | _OURS.keys())])
    try:
        return cast(Callable[[str], AnyStore], found[scheme].load())
    except (ImportError, AttributeError) as error:
        problem = f"the store for {scheme}:// can't be loaded from {found[scheme].value}: {error}"
        raise ConfigurationError([problem]) from error


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Say in one sentence that a name is unknown, and which known one it may have meant."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names) or 'none'}"
    return f"unknown {what} {name!r}: {hint}"


def parse_options(query: str, readers: Mapping[str, Callable[[str], Any]]) -> tuple[dict[str, Any], list[str]]:
    """Read the options of a URL, all of them, whatever is wrong with some.

    Args:
        query: the URL's part behind ``?``.
        readers: for each option the function that reads its value, and raises ``ValueError`` with the fix.

    Returns:
        The values of the options that are there, and the problems.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    # What stands before an @ that is written as it is may be a part of a password, with a ? or & in it.
    secret = "@" in query
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in readers and (secret or not _NAME.fullmatch(name)):
            problems.append("an unknown option: write %3F for a ? and %26 for a & in names and passwords")
        elif name not in readers:
            problems.append(unknown("option", name, readers))
        elif name in values:
            problems.append(f"option {name!r} is given twice: keep one")
        else:
            try:
                values[name] = readers[name](text)
            except ValueError as error:
                problems.append(f"option {name!r} is {text!r}: {error}")
    return values, problems


def read_flag(text: str) -> bool:
    """Read ``true`` or ``false``.

    Raises:
        ValueError: it is neither.
    """
    try:
        return _FLAGS[text.lower()]
    except KeyError:
        raise ValueError("write true or false") from None


def read_seconds(text: str) -> float:
    """Read a duration such as ``250ms``, ``5s``, ``2m`` or ``1h``, in seconds.

    Raises:
        ValueError: the unit is missing, or it is no number.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("write a number and its unit: 250ms, 5s, 2m or 1h")
    return float(match[1]) * _UNIT_SECONDS[match[2]]
