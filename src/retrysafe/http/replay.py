"""What is kept of a response, and what a recorded one looks like when it is sent again (S2, S4, S7).

Header names are lower-case, as ASGI and HTTP/2 want them.
"""

from __future__ import annotations

from functools import lru_cache

from retrysafe.protocol.model import Headers, Outcome, Response

REPLAYED = b"idempotent-replayed"
"""``true`` on a response that was recorded earlier (S7)."""
STORED = b"idempotency-stored"
"""``false`` on a true response that could not be made durable yet (D2)."""
STATUS = b"idempotency-status"
"""``unprotected`` on the response of an operation that ran without a claim (D1)."""
EXPOSE = b"access-control-expose-headers"

_HOP_BY_HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}
_OF_THE_MOMENT = {
    # Each server and each replay has its own.
    b"content-length",
    b"date",
    b"server",
}
_OF_THE_CALLER = {
    # A session or a challenge was for the moment and for whoever held the connection.
    b"authentication-info",
    b"proxy-authentication-info",
    b"set-cookie",
    b"set-cookie2",
    b"www-authenticate",
}
_TRACES = {
    # They lead to the request that carried them, and a replay is another request.
    b"b3",
    b"correlation-id",
    b"request-id",
    b"sentry-trace",
    b"server-timing",
    b"traceparent",
    b"traceresponse",
    b"tracestate",
    b"uber-trace-id",
    b"x-amz-request-id",
    b"x-amzn-requestid",
    b"x-amzn-trace-id",
    b"x-cloud-trace-context",
    b"x-correlation-id",
    b"x-request-id",
    b"x-trace-id",
}
DROPPED = frozenset(_HOP_BY_HOP | _OF_THE_MOMENT | _OF_THE_CALLER | _TRACES | {REPLAYED, STORED, STATUS})
"""Lower-case names of response headers that are not recorded (S4)."""

DROPPED_FAMILIES = (
    b"access-control-",
    b"ratelimit",
    b"x-b3-",
    b"x-datadog-",
    b"x-rate-limit",
    b"x-ratelimit",
)
"""What the names of more such headers begin with: each vendor adds its own."""

_WITHOUT_BODY = frozenset({204, 304})


def outcome_of(response: Response, *, keep_body: bool = True) -> Outcome:
    """Return what a checkpoint keeps of a response.

    Args:
        response: the operation's own response.
        keep_body: False when the body is too large or was streamed (S5).

    Rules: S2, S4.
    """
    return Outcome(response.status, _lasting(response.headers), response.body if keep_body else None)


def replay_response(response: Response) -> Response:
    """Return a recorded or rebuilt response as it is sent: marked as a replay, with its length, without what S4 drops.

    Rules: S5, S7.
    """
    marks = ((REPLAYED, b"true"), (EXPOSE, b"Idempotent-Replayed"))
    headers = _lasting(response.headers)
    if response.status in _WITHOUT_BODY:
        return Response.raw(response.status, headers + marks, b"")
    length = (b"content-length", str(len(response.body)).encode())
    return Response.raw(response.status, (*headers, length, *marks), response.body)


def stamped(response: Response, *, stored: bool, protected: bool) -> Response:
    """Say on a response what could not be promised for it; the same object when all is well.

    Args:
        response: the operation's own response.
        stored: False when its outcome is not durable yet (D2).
        protected: False when it ran without a claim (D1).
    """
    stamps: Headers = ()
    if not protected:
        stamps += ((STATUS, b"unprotected"),)
    if not stored:
        stamps += ((STORED, b"false"),)
    return Response.raw(response.status, response.headers + stamps, response.body) if stamps else response


@lru_cache(maxsize=1024)
def _drops(name: bytes) -> bytes | None:
    """Return a name in lower case if its header is not recorded, else None; applications send few different ones."""
    name = name.lower()
    return name if name in DROPPED or name.startswith(DROPPED_FAMILIES) else None


def _lasting(headers: Headers) -> Headers:
    drops = [_drops(name) for name, _ in headers]
    kept = tuple([header for header, dropped in zip(headers, drops, strict=True) if dropped is None])
    if b"connection" not in drops:
        return kept
    named = _named_by_connection(headers)
    return tuple([header for header in kept if header[0].lower() not in named])


def _named_by_connection(headers: Headers) -> frozenset[bytes]:
    """Names of more headers that belong to one connection only (RFC 9110, section 7.6.1)."""
    values = [value for name, value in headers if name.lower() == b"connection"]
    return frozenset(name.strip().lower() for value in values for name in value.split(b","))
