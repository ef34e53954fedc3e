"""Reading the key that a client sent (K1, K2, K3).

Messages of the errors say what is wrong with a key and never show it (K8).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from retrysafe.errors import ConfigurationError, KeyMalformed

LONGEST_KEY = 255
"""Characters; what Stripe allows, and most who followed."""

_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "cookie"})
_FIELD_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_UUID = re.compile(rb"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}")
_NIL_UUID = b"00000000-0000-0000-0000-000000000000"

# What nearly every client sends: visible ASCII, bare or in quotes. A bare key has no quote, because half a
# quoted string is not a key, and no comma, because a proxy that joins two header lines must not make a third
# key of them. Everything else belongs to a bare key, ``;`` and ``:`` too.
_BARE = re.compile(rb"[!#-+\--~]+")
_QUOTED = re.compile(rb'"([!#-\[\]-~]+)"')

# The whole of RFC 9651 for an Item that is a String. Its parameters are read, so that a damaged value is
# noticed, and then ignored.
_STRING = rb'"(?:[ !#-\[\]-~]|\\["\\])*"'
_BARE_ITEM = rb"|".join(
    (
        rb"-?(?:[0-9]{1,12}\.[0-9]{1,3}|[0-9]{1,15})(?![0-9.])",
        _STRING,
        rb"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*+",
        rb":[A-Za-z0-9+/]*+={0,2}:",
        rb"\?[01]",
        rb"@-?[0-9]{1,15}(?![0-9.])",
        rb'%"(?:[ !#$&-~]|%[0-9a-f]{2})*"',
    )
)
_PARAMETER = rb";\x20*+[a-z*][a-z0-9_\-.*]*+(?:=(?:" + _BARE_ITEM + rb"))?"
_ITEM = re.compile(rb"(" + _STRING + rb")(?:" + _PARAMETER + rb")*")
_ESCAPED = re.compile(rb'\\(["\\])')
_VISIBLE = re.compile(rb"[!-~]+")


@dataclass(frozen=True)
class KeyRules:
    """Where a key is looked for, and what it must look like.

    ``X-Request-Id`` may be listed but never is by default: proxies make a new one for each attempt, and then
    every retry would run again.

    Attributes:
        headers: names of the headers that may carry the key, in any case.
        strict: accept only the quoted form of RFC 9651, which the IETF draft asks for and hardly any client
            sends.
        min_length: fewest characters, 1 to 255.
        uuid_only: accept only UUIDs in their usual form, and not the one that is all zeros.

    Raises:
        ConfigurationError: the values cannot work; every problem is listed.
    """

    headers: tuple[str, ...] = ("Idempotency-Key", "Tracking-Id")
    strict: bool = False
    min_length: int = 1
    uuid_only: bool = False
    names: frozenset[bytes] = field(init=False, repr=False, compare=False)
    """The header names as they are compared: lower-case bytes."""

    def __post_init__(self) -> None:
        """Check everything at once."""
        if problems := self._problems():
            raise ConfigurationError(problems)
        object.__setattr__(self, "names", frozenset(name.lower().encode() for name in self.headers))

    def _problems(self) -> list[str]:
        if isinstance(self.headers, str):
            return ["headers is one string: put the names into a tuple"]
        problems: list[str] = []
        if not self.headers:
            problems.append("headers is empty, so that no request has a key: list at least Idempotency-Key")
        for name in self.headers:
            if not _FIELD_NAME.fullmatch(name):
                problems.append(f"headers lists {name!r}, which is no header name: write it like Idempotency-Key")
            if name.lower() in _CREDENTIALS:
                problems.append(f"headers lists {name}: a credential names a caller, not an intent; remove it")
        if not 1 <= self.min_length <= LONGEST_KEY:
            problems.append(f"min_length is {self.min_length}: choose 1 to {LONGEST_KEY}")
        if self.uuid_only and self.min_length > len(_NIL_UUID):
            problems.append(f"min_length is {self.min_length} and uuid_only is set, but a UUID has 36 characters")
        return problems


def read_key(
    headers: Sequence[tuple[bytes, bytes]], rules: KeyRules, firsts: Mapping[bytes, bytes] | None = None
) -> str | None:
    """Return the key of a request without its quotes, or None when there is no key.

    Args:
        headers: all request headers.
        rules: where to look and what to accept.
        firsts: the first value of each header by its lower-case name, where that is known already; it spares a look
            at every header of a request that has none twice.

    Raises:
        KeyMalformed: a header is there twice, headers disagree, or the value is no key.

    Rules: K1, K2, K3.
    """
    names = rules.names
    if firsts is not None and len(firsts) == len(headers):
        values = [firsts[name] for name in names if name in firsts]
        if len(values) < 2:
            return _checked(values[0], rules).decode("ascii") if values else None
    found = [header for header in headers if header[0].lower() in names]
    if not found:
        return None
    if len(found) == 1:
        return _checked(found[0][1], rules).decode("ascii")
    if len({name.lower() for name, _ in found}) < len(found):
        # Even when they are equal: a key is one Item, and nobody knows which line a proxy would have kept.
        raise KeyMalformed("the key's header is there more than once")
    keys = {_checked(value, rules) for _, value in found}
    if len(keys) > 1:
        raise KeyMalformed("the request has two keys that differ")
    return keys.pop().decode("ascii")


def _checked(value: bytes, rules: KeyRules) -> bytes:
    key = _unquoted(value, rules)
    if not rules.min_length <= len(key) <= LONGEST_KEY:
        raise KeyMalformed(f"the key has {len(key)} characters; {rules.min_length} to {LONGEST_KEY} are allowed")
    if rules.uuid_only and (not _UUID.fullmatch(key) or key == _NIL_UUID):
        raise KeyMalformed("the key is not a UUID")
    return key


def _unquoted(value: bytes, rules: KeyRules) -> bytes:
    if quoted := _QUOTED.fullmatch(value):
        return quoted[1]
    if not rules.strict and _BARE.fullmatch(value):
        return value
    # Most servers have removed blanks around a value already, so that they are looked for only now.
    stripped = value.strip(b" \t")
    return _unusual(value, rules) if stripped == value else _unquoted(stripped, rules)


def _unusual(value: bytes, rules: KeyRules) -> bytes:
    """Read a key with escapes or parameters, or say what is wrong with it."""
    if not value:
        raise KeyMalformed("the key is empty")
    if item := _ITEM.fullmatch(value):
        key = _ESCAPED.sub(rb"\1", item[1][1:-1])
        if not key:
            raise KeyMalformed("the key is empty")
        if not _VISIBLE.fullmatch(key):
            raise KeyMalformed("the key has a blank in it; visible ASCII characters are allowed")
        return key
    if value.startswith(b'"'):
        raise KeyMalformed("the key starts with a quote and is not an RFC 9651 String")
    if rules.strict:
        raise KeyMalformed("the key is not an RFC 9651 String: put it into double quotes")
    raise KeyMalformed("the key has a character that is not visible ASCII, or a comma or a quote that is not quoted")
