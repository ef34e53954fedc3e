"""An HTTP request as a value, and what the protocol wants to know of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec

from retrysafe.protocol.fingerprint import Fingerprint, FingerprintRules, Secret, fingerprint
from retrysafe.protocol.model import Headers, StoredRequest

NEVER_STORED = frozenset(
    {
        # Credentials: a re-run acts for the stored principal and not with what its client once showed (R9).
        b"authorization",
        b"client-cert",
        b"client-cert-chain",
        b"cookie",
        b"proxy-authorization",
        b"ssl-client-cert",
        b"x-api-key",
        b"x-client-cert",
        b"x-forwarded-client-cert",
        b"x-ssl-client-cert",
        # Keys: they are kept as a digest and a hint only (K8).
        b"idempotency-key",
        b"paypal-request-id",
        b"tracking-id",
        b"x-idempotency-key",
        b"x-tracking-id",
    }
)
"""Lower-case names of request headers that are not stored for a re-run, even if somebody lists them."""


class HttpRequest(msgspec.Struct, frozen=True, eq=False, dict=True):
    """What an adapter read of a request. Its representation shows the method and the path only (K8).

    Attributes:
        method: the method, upper case.
        path: the path as it was sent, still percent-encoded.
        query: the query as it was sent, without ``?``.
        headers: header pairs in wire order.
        body: the whole body.
        native: what the server gave to the adapter (an ASGI scope, a WSGI environment), for hooks of the
            application.
    """

    method: str
    path: bytes
    query: bytes
    headers: Headers
    body: bytes
    native: Mapping[str, Any] = {}

    @cached_property
    def firsts(self) -> Mapping[bytes, bytes]:
        """The first value of each header, by its name in lower case."""
        found = dict(self.headers)
        # As nearly every request has it, and in a third of the time: no name twice, and all in lower case.
        if len(found) < len(self.headers) or not b"".join(found).islower():
            found = {name.lower(): value for name, value in reversed(self.headers)}
        return found

    def header(self, name: str) -> str | None:
        """Return the first header called ``name``, whatever its case, or None."""
        value = self.firsts.get(name.lower().encode("latin-1"))
        return None if value is None else value.decode("latin-1")

    @property
    def media_type(self) -> str:
        """``Content-Type`` with its parameters; empty when there is none."""
        return self.firsts.get(b"content-type", b"").decode("latin-1")

    def __eq__(self, other: object) -> bool:
        """Compare what was asked for, and not what the server gave."""
        return isinstance(other, HttpRequest) and self._asked == other._asked

    def __hash__(self) -> int:
        """Hash what equality compares."""
        return hash(self._asked)

    def __repr__(self) -> str:
        """Show what is safe to log."""
        return f"HttpRequest(method={self.method!r}, path={self.path!r})"

    @property
    def _asked(self) -> tuple[object, ...]:
        return self.method, self.path, self.query, self.headers, self.body


# RFC 7240: `wait=5`, `wait = "5"`, and parameters that start with `;`, between commas. Tried at one
# place only, and no two alternatives begin alike, so that hostile values are read once. Groups are not possessive:
# before Python 3.11.5 those could match what they should not.
_QUOTED = rb'"(?:[^"\\]|\\.)*"'
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_PREFERENCE = re.compile(
    rb"[ \t,]*+(" + _TOKEN + rb")[ \t]*+(?:=[ \t]*+(" + _TOKEN + rb"|" + _QUOTED + rb"))?"
    rb'(?:[^,"]|' + _QUOTED + rb")*(?:,|$)"
)
_SECONDS = re.compile(rb'"?([0-9]{1,9})"?')


def wait_seconds(request: HttpRequest) -> float | None:
    """Return how many seconds a client is ready to wait (``Prefer: wait=N``, RFC 7240), or None.

    The first ``wait`` counts. One that is no whole number is as good as none: a preference may be ignored,
    and nothing about it is an error.

    Rules: S9.
    """
    if b"prefer" not in request.firsts:
        return None
    for name, value in request.headers:
        if name.lower() == b"prefer" and (word := _preference(value, b"wait")) is not None:
            seconds = _SECONDS.fullmatch(word)
            return float(seconds[1]) if seconds else None
    return None


def _preference(value: bytes, wanted: bytes) -> bytes | None:
    """Return the word of a preference: empty when it has none, None when the preference is not there."""
    at = 0
    while preference := _PREFERENCE.match(value, at):
        if preference[1].lower() == wanted:
            return preference[2] or b""
        at = preference.end()
    return None


def request_fingerprint(request: HttpRequest, rules: FingerprintRules, secrets: Sequence[Secret]) -> Fingerprint:
    """Digest what a request asks for; see :func:`~retrysafe.protocol.fingerprint.fingerprint`.

    Rules: F2, F3, F4.
    """
    return fingerprint(
        method=request.method,
        path=request.path,
        query=request.query,
        media_type=request.media_type,
        headers=request.headers,
        body=request.body,
        rules=rules,
        secrets=secrets,
    )


def stored_request(
    request: HttpRequest, rerun_headers: frozenset[str], operation: str, surface: int = 0
) -> StoredRequest:
    """Return what a re-run needs of a request: its listed headers and nothing that is a credential or a key.

    Args:
        request: the request.
        rerun_headers: lower-case names of the headers to keep.
        operation: name of the operation, such as ``POST /charges``.
        surface: which of the application's guarded surfaces it came in by.

    Rules: R9, R13.
    """
    names = {name.encode("latin-1") for name in rerun_headers} - NEVER_STORED
    return StoredRequest(
        method=request.method,
        target=request.path + b"?" + request.query if request.query else request.path,
        headers=tuple([header for header in request.headers if header[0].lower() in names]),
        body=request.body,
        operation=operation,
        surface=surface,
    )
