"""Errors on the wire: ``application/problem+json`` (RFC 9457) made from the table in ``codes.py`` (§E).

A problem never holds a key, a stored payload, or anything of another caller (K8).
"""

from __future__ import annotations

import msgspec

from retrysafe.errors import (
    AttemptSuperseded,
    InProgress,
    NotReplayable,
    RequestRefused,
    RequestTooLarge,
    RetrySafeError,
)
from retrysafe.http.codes import OPERATION_FAILED, Code, code_of, type_uri
from retrysafe.http.profiles import IETF, Profile
from retrysafe.protocol.model import Headers, Response

_encode = msgspec.json.Encoder().encode


def problem_response(error: RetrySafeError, profile: Profile = IETF) -> Response:
    """Say to a client why its operation was not run, or why its outcome is not shown.

    Besides the members of RFC 9457 there are always ``code`` and ``retryable``; ``new_key_safe`` where we can
    know it; ``operation`` where there is one that the caller may know of; and what the error knows besides.

    Args:
        error: what was raised.
        profile: in whose words.

    Rules: K8, S5, and §E.
    """
    code = code_of(error)
    members: dict[str, str | int] = {}
    headers: Headers = ()
    retry_after = code.retry_after_seconds
    if isinstance(error, (RequestRefused, AttemptSuperseded)) and error.operation_id is not None:
        members["operation"] = error.operation_id
    match error:
        case InProgress():
            retry_after = error.retry_after_seconds
            members["phase"] = error.phase
        case AttemptSuperseded():
            retry_after = error.retry_after_seconds
        case RequestTooLarge():
            members["limit_bytes"] = error.limit_bytes
        case NotReplayable():
            members["original_status"] = error.original_status
            if error.location is not None:
                members["location"] = error.location
                headers = ((b"location", error.location.encode("latin-1")),)
        case _:
            pass
    if retry_after is not None:
        headers += ((b"retry-after", str(retry_after).encode()),)
    return _problem(code, code.detail or str(error), profile, members, headers)


def failure_response(profile: Profile = IETF) -> Response:
    """Tell a client that the operation raised, and nothing about the exception.

    In mode ``once`` this is recorded as the outcome.
    """
    return _problem(OPERATION_FAILED, OPERATION_FAILED.detail or "", profile, {}, ())


def _problem(code: Code, detail: str, profile: Profile, members: dict[str, str | int], headers: Headers) -> Response:
    status, name = profile.words(code)
    body: dict[str, object] = {
        "type": type_uri(name),
        "title": code.title,
        "status": status,
        "detail": detail,
        "code": name,
        "retryable": code.retryable,
    }
    if code.new_key_safe is not None:
        body["new_key_safe"] = code.new_key_safe
    content = _encode(body | members)
    common = (
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(content)).encode()),
        # A shared cache must not answer a retry with the refusal of the attempt before.
        (b"cache-control", b"no-store"),
    )
    return Response.raw(status, common + headers, content)
