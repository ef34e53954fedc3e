"""Calls as Redis' protocol has them, and its errors in the words of the store's contract."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, cast

import hiredis

from retrysafe.errors import ConfigurationError, RecordUnreadable, RetrySafeError, StoreError, StoreUnavailable
from retrysafe.stores.redis.calls import Call, Introduction, Words, script

# Its own types know tuples of one word only.
packed_command = cast("Callable[[Words], bytes]", hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType]
"""Return a command as bytes."""

ReplyError: type[Exception] = hiredis.ReplyError
"""What the parser makes of an error; it is returned, not raised."""

_UNKNOWN_SCRIPT = "NOSCRIPT"
_WRAPPED = re.compile(r"-([A-Z]{3,}) ")
_TOO_MANY = "ERR max number of clients reached"
_LAYOUT = "RETRYSAFE-LAYOUT"
# What may pass: it starts, is full, in its own way, a replica, without enough of them, or has yet to give us a right.
_PASSING = frozenset(
    (
        *("LOADING", "BUSY", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "OOM", "NOREPLICAS", "MISCONF"),
        *("NOAUTH", "NOPERM", "WRONGPASS", "UNBLOCKED"),
    )
)


def packed(call: Call) -> bytes:
    """Return a call as bytes, for a server that has seen the script."""
    keys = call.keys
    return packed_command(("EVALSHA", script(call.script).digest, len(keys), *keys, *call.arguments))


def packed_whole(call: Call) -> bytes:
    """Return a call as bytes with the script's text; the server remembers it from then on."""
    keys = call.keys
    return packed_command(("EVAL", script(call.script).text, len(keys), *keys, *call.arguments))


def reader() -> Any:  # noqa: ANN401 - the parser has no types
    """Return a parser of replies."""
    return hiredis.Reader()


def is_unknown_script(reply: object) -> bool:
    """Tell whether a server has not seen the script, or has forgotten it; nothing was done then."""
    return isinstance(reply, Exception) and str(reply).startswith(_UNKNOWN_SCRIPT)


def translated(error: Exception) -> RetrySafeError:
    """Say what an error that a server answered means for whoever asked.

    Returns:
        ``StoreUnavailable`` when it may pass, ``RecordUnreadable`` when a newer version wrote what was met,
        ``ConfigurationError`` when the server is a Cluster's, a plain ``StoreError`` for a defect of ours.
    """
    text = " ".join(str(error).split())
    code = code_of(error)
    if _LAYOUT in text:
        return RecordUnreadable("a newer version of retrysafe wrote this checkpoint")
    if code in _PASSING:
        return StoreUnavailable(f"Redis: {text}")
    if code in {"MOVED", "ASK", "CROSSSLOT"}:
        return ConfigurationError(["the server is one of a Cluster: write redis+cluster:// for redis://"])
    return StoreError(f"Redis: {text}")


def code_of(error: object) -> str:
    """Return the word that names an error; Redis 6 wraps those of scripts."""
    text = str(error)
    if text.startswith("ERR Error running script") and (inner := _WRAPPED.search(text)):
        return inner[1]
    return "LOADING" if text.startswith(_TOO_MANY) else text.partition(" ")[0]


def leads_away(reply: object) -> bool:
    """Tell whether the server is no primary any more: another connection may lead to the one that is."""
    return isinstance(reply, ReplyError) and code_of(reply) in {"READONLY", "MASTERDOWN"}


def lost(cause: BaseException | str | None) -> StoreUnavailable:
    """Say that a connection ended; nothing is known about what was under way (D4)."""
    text = cause if isinstance(cause, str) else " ".join(str(cause or "").split())
    return StoreUnavailable(f"Redis: {text or 'the connection ended'}")


def check_introduced(reply: object, introduction: Introduction) -> None:
    """Refuse a server that was emptied, and filled again by processes that did not know of it (K4).

    Raises:
        StoreUnavailable: its pepper is another one: the same key would be two operations.
    """
    if reply != [introduction.row]:
        raise StoreUnavailable("Redis: the server has lost its data, and others have begun anew: restart this process")


def check_waited(reply: object, wanted: int) -> RetrySafeError | None:
    """Return why a write does not count: it reached fewer replicas than it must (D3). It may have been made (D4)."""
    if isinstance(reply, Exception):
        return translated(reply)
    if isinstance(reply, int) and reply >= wanted:
        return None
    return StoreUnavailable(f"Redis: {reply} of {wanted} replicas have the write; nothing is known about it")
