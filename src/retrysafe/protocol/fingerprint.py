"""Digests: what a client asked for (F1 to F5), which checkpoint it meant (K4), keys for further calls (R4).

A fingerprint is two HMACs under one secret: the *raw* digest covers the request as it was sent, the
*canonical* digest what it means. An equal raw digest decides at once; the canonical one is there for clients
that write the same thing differently on a retry.
"""

from __future__ import annotations

import re
from base64 import b32encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b, sha256
from hmac import compare_digest
from typing import Protocol, Self

from retrysafe.errors import ConfigurationError
from retrysafe.protocol import canonical
from retrysafe.protocol.canonical import framed
from retrysafe.protocol.selection import path_problem, selection

_VERSION = b"v1:"
_ID_BYTES = 4
_DIGEST_BYTES = 32
_STORED_BYTES = len(_VERSION) + _ID_BYTES + 2 * _DIGEST_BYTES
_SHORTEST_SECRET = 16
_BLOCK = 64

_FIELD_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class FingerprintRules:
    """What belongs to the client's intent (F4).

    Attributes:
        include: only these fields count: JSON paths such as ``$.order.total`` or ``$.items[*].sku``, and form
            field names.
        exclude: these fields do not count, such as a time of sending that each retry renews.
        raw: compare bodies byte for byte, whatever their media type.
        headers: names of request headers that count as well, such as ``X-Account``; kept in lower case.

    Fields are looked for in JSON, form and multipart bodies. A body that is none of these, or is damaged,
    counts as a whole.

    Raises:
        ConfigurationError: the rules contradict each other or cannot be read; every problem is listed.
    """

    include: frozenset[str] = frozenset()
    exclude: frozenset[str] = frozenset()
    raw: bool = False
    headers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check everything at once."""
        # One string is a collection of its characters, which is never what was meant.
        strings = [name for name in ("include", "exclude", "headers") if isinstance(getattr(self, name), str)]
        problems = [f"{name} is one string: put its names into a collection" for name in strings]
        if problems := problems or self._problems():
            raise ConfigurationError(problems)
        object.__setattr__(self, "include", frozenset(self.include))
        object.__setattr__(self, "exclude", frozenset(self.exclude))
        object.__setattr__(self, "headers", tuple(name.lower() for name in self.headers))

    def _problems(self) -> list[str]:
        fields = sorted({*self.include, *self.exclude})
        problems = [problem for name in fields if (problem := path_problem(name))]
        if self.include and self.exclude:
            problems.append("include and exclude are both given: keep the one that says it shorter")
        if self.raw and (self.include or self.exclude):
            problems.append("raw compares whole bodies and leaves out no field: drop it or the fields")
        problems += [
            f"headers lists {name!r}, which is no header name: write it like X-Account"
            for name in self.headers
            if not _FIELD_NAME.fullmatch(name)
        ]
        lowered = [name.lower() for name in self.headers]
        problems += [
            f"headers lists {name} more than once: once is enough"
            for name in sorted({name for name in lowered if lowered.count(name) > 1})
        ]
        return problems


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...
    def copy(self) -> Self: ...


@dataclass(frozen=True, slots=True)
class Secret:
    """A key for fingerprints; made by :meth:`of`. The key is never shown.

    Attributes:
        id: 4 bytes that name the key in what is stored, and do not reveal it.
        key: the key.
    """

    id: bytes
    key: bytes = field(repr=False)
    _inner: _Digest = field(repr=False, compare=False)
    _outer: _Digest = field(repr=False, compare=False)

    @classmethod
    def of(cls, value: bytes) -> Secret:
        """Make a secret from at least 16 random bytes; 32 are better, and more add nothing.

        Raises:
            ConfigurationError: the value is too short to keep anybody from guessing it.
        """
        if len(value) < _SHORTEST_SECRET:
            problem = f"the secret has {len(value)} bytes, fewer than {_SHORTEST_SECRET}: use 32 random bytes"
            raise ConfigurationError([problem])
        # HMAC by hand (RFC 2104): both keyed states are made once here, which halves the price of a digest.
        block = (value if len(value) <= _BLOCK else sha256(value).digest()).ljust(_BLOCK, b"\0")
        inner = sha256(bytes(byte ^ 0x36 for byte in block))
        outer = sha256(bytes(byte ^ 0x5C for byte in block))
        unnamed = cls(b"", value, inner, outer)
        # No fingerprint begins like this label: theirs begin with the number of their parts.
        return cls(unnamed.hmac(b"retrysafe secret id", b"")[:_ID_BYTES], value, inner, outer)

    def hmac(self, head: bytes, tail: bytes) -> bytes:
        """HMAC-SHA256 of ``head + tail`` under this key, without copying either."""
        inner = self._inner.copy()
        inner.update(head)
        inner.update(tail)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()


class Fingerprint:
    """What a client asked for, digested when somebody wants to know.

    ``stored`` costs both digests and is needed for a new checkpoint; ``matches`` costs the raw one, and the
    canonical one only for a request that was sent in other bytes.
    """

    __slots__ = ("_body", "_current", "_head", "_meaning", "_request", "_rules", "_secrets", "_stored")

    def __init__(
        self,
        request: tuple[bytes, bytes, bytes, str, bytes],
        body: bytes,
        rules: FingerprintRules,
        secrets: Sequence[Secret],
    ) -> None:
        """Keep what is digested later; use :func:`fingerprint`.

        Args:
            request: method, path, query, media type, and the named headers, framed.
            body: the whole body.
            rules: what counts.
            secrets: the current secret, then earlier ones.
        """
        method, path, query, media_type, headers = request
        self._request = request
        self._body = body
        self._rules = rules
        self._secrets = secrets
        # The body comes last and needs no length: there is nothing behind it.
        self._head = _head(b"as sent", method, path, query, _bytes(media_type), headers)
        self._current: bytes | None = None
        self._meaning: tuple[bytes, bytes] | None = None
        self._stored: bytes | None = None

    @property
    def stored(self) -> bytes:
        """What a checkpoint keeps: version, id of the current secret, raw digest, canonical digest."""
        if self._stored is None:
            secret = self._secrets[0]
            self._stored = _VERSION + secret.id + self._raw(secret) + self._canonical(secret)
        return self._stored

    def matches(self, stored: bytes) -> bool:
        """Tell whether a checkpoint was claimed for the same request, in constant time for each digest (F5).

        A fingerprint of an unknown version, or under a secret that is not known any more, matches nothing:
        the answer is then 422 and never a second run (F2).
        """
        if len(stored) != _STORED_BYTES or not stored.startswith(_VERSION):
            return False
        secret_id, raw, meaning = stored[3:7], stored[7:39], stored[39:]
        for secret in self._secrets:
            if secret.id == secret_id:
                if compare_digest(self._raw(secret), raw):
                    return True
                return compare_digest(self._canonical(secret), meaning)
        return False

    def __repr__(self) -> str:
        """Show nothing of the request (K8)."""
        return f"<Fingerprint of {len(self._body)} bytes>"

    def _raw(self, secret: Secret) -> bytes:
        if secret is not self._secrets[0]:
            return secret.hmac(self._head, self._body)
        if self._current is None:
            self._current = secret.hmac(self._head, self._body)
        return self._current

    def _canonical(self, secret: Secret) -> bytes:
        if self._meaning is None:
            self._meaning = self._understand()
        return secret.hmac(*self._meaning)

    def _understand(self) -> tuple[bytes, bytes]:
        method, path, query, media_type, headers = self._request
        media = canonical.media_type(media_type)
        form, body = b"raw", self._body
        if not self._rules.raw:
            fields = selection(self._rules.include, self._rules.exclude)
            form, body = canonical.body(media, body, fields)
        # The form is digested too, so that text which looks like canonical JSON is not taken for JSON.
        return _head(form, method, path, canonical.query(query), media.canonical, headers), body


def _head(*parts: bytes) -> bytes:
    """Frame what stands before the body. Most requests of an operation have that in common."""
    return framed(parts) if sum(map(len, parts)) > _LONG_HEAD else _known_head(parts)


_LONG_HEAD = 512
"""What is remembered must stay small whatever clients send."""
_known_head = lru_cache(maxsize=1024)(framed)


def fingerprint(
    *,
    method: str,
    path: bytes,
    query: bytes,
    media_type: str,
    headers: Iterable[tuple[bytes, bytes]],
    body: bytes,
    rules: FingerprintRules,
    secrets: Sequence[Secret],
) -> Fingerprint:
    """Digest what a client asked for; nothing is computed before it is needed.

    Args:
        method: the method, upper case.
        path: the path as it was sent, still percent-encoded.
        query: the query as it was sent, without ``?``.
        media_type: ``Content-Type``; empty when there is none.
        headers: all request headers; only those that ``rules`` names are read.
        body: the whole body as it was sent.
        rules: what counts.
        secrets: at least one: the current secret first, then earlier ones that stored fingerprints may still
            use.

    Rules: F2, F3, F4.
    """
    named = _named(headers, rules.headers) if rules.headers else b""
    return Fingerprint((_bytes(method), path, query, media_type, named), body, rules, secrets)


def identity_digest(pepper: bytes, namespace: str, principal: str, key: str) -> bytes:
    """Digest of what makes a key unique: 16 bytes, the primary key of a checkpoint (K4).

    Args:
        pepper: 16 to 64 random bytes that the store was given at its creation.
        namespace: which application or part of it.
        principal: stable id of the authenticated party; empty when all callers share one scope.
        key: the client's key.
    """
    parts = framed([_bytes(namespace), _bytes(principal), _bytes(key)])
    return blake2b(parts, digest_size=16, key=pepper).digest()


def child_key(operation_id: str, step: str, index: int = 0) -> str:
    """Derive the key of a call to another service: the same for every attempt (R4).

    Args:
        operation_id: the operation's public id, never the client's key: what we call must not learn that.
        step: name of the call inside the operation.
        index: which one, for calls made in a loop.

    Returns:
        32 characters of ``a-z2-7``.
    """
    parts = [b"retrysafe child key", _bytes(operation_id), _bytes(step), str(index).encode()]
    return b32encode(sha256(framed(parts)).digest()[:20]).decode().lower()


def key_hint(key: str) -> str:
    """Return what helps a person to recognise a key: at most 6 characters and a quarter of it (K8)."""
    return key[: min(6, len(key) // 4)] + "…"


def _named(headers: Iterable[tuple[bytes, bytes]], names: tuple[str, ...]) -> bytes:
    values: dict[bytes, list[bytes]] = {name.encode(): [] for name in names}
    for name, value in headers:
        if (found := values.get(name.lower())) is not None:
            found.append(value)
    return framed([framed([name, *values[name]]) for name in sorted(values)])


def _bytes(text: str) -> bytes:
    # A lone surrogate is hostile but no reason to fail.
    return text.encode("utf-8", "surrogatepass")
