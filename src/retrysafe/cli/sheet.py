"""Everything that is known about one operation, for people and for programs."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import click

from retrysafe.cli.operations import document, state_word
from retrysafe.cli.timeline import drawn, moments
from retrysafe.cli.words import counted, iso, printable, size
from retrysafe.errors import RecordUnreadable
from retrysafe.http.codes import OUTCOME_UNKNOWN
from retrysafe.protocol.encoding import decode_outcome, decode_request
from retrysafe.protocol.model import Checkpoint, Headers, Outcome, StoredRequest
from retrysafe.protocol.states import State

_COLOURS = {"abandoned": "red", "parked": "yellow", "done": "green", "running": "cyan", "streaming": "cyan"}
_HIDDEN = "hidden: --body shows it"


def full_document(seen: Checkpoint, *, body: bool) -> dict[str, Any]:
    """Return what programs see of one operation; bodies are base64, and only there when asked for."""
    outcome, request = _outcome(seen), _request(seen)
    return document(seen) | {
        "attempt_id": seen.attempt_id,
        "identity": seen.digest.hex(),
        "fingerprint": seen.fingerprint.hex(),
        "outcome": _unreadable(outcome) or _outcome_document(outcome, body=body),
        "request": _unreadable(request) or _request_document(request, body=body),
        "timeline": [{"at": iso(moment.at) if moment.noted else None, "what": moment.text} for moment in moments(seen)],
    }


def sheet(seen: Checkpoint, *, body: bool) -> Iterator[str]:
    """Write one operation as lines; bodies only when asked for."""
    word = state_word(seen)
    state = click.style(word, fg=_COLOURS.get(word, "magenta"), bold=True)
    yield f"{click.style(seen.operation_id, bold=True)}  {state}"
    yield f"{printable(seen.name)} · mode {seen.mode}"
    yield ""
    yield from _facts(seen)
    yield ""
    yield from drawn(moments(seen))
    yield ""
    yield from _outcome_lines(_outcome(seen), body=body)
    yield from _request_lines(_request(seen), body=body)
    if seen.state is State.PARKED:
        yield f"   = fix: {OUTCOME_UNKNOWN.fix}"
        yield f"   = more: retrysafe explain {OUTCOME_UNKNOWN.number}"


def _facts(seen: Checkpoint) -> Iterator[str]:
    facts = {
        "principal": printable(seen.principal) or "(all callers share one scope)",
        "namespace": printable(seen.namespace),
        "key": printable(seen.key_hint) if seen.key_hint else "(no hint is kept)",
        "attempts": f"{seen.attempt}, of which {seen.deaths} ended without an outcome" if seen.deaths else seen.attempt,
        "fence": seen.fence,
        "latest": f"attempt {seen.attempt_id}" if seen.attempt_id != seen.operation_id else "",
        "identity": seen.digest.hex(),
    }
    yield from (f"{click.style(f'{name:<10}', dim=True)} {fact}" for name, fact in facts.items() if fact != "")


def _outcome(seen: Checkpoint) -> Outcome | RecordUnreadable | None:
    try:
        return None if seen.outcome is None else decode_outcome(seen.outcome)
    except RecordUnreadable as error:
        return error


def _request(seen: Checkpoint) -> StoredRequest | RecordUnreadable | None:
    try:
        return None if seen.request is None else decode_request(seen.request)
    except RecordUnreadable as error:
        return error


def _unreadable(record: object) -> dict[str, Any] | None:
    return {"unreadable": str(record)} if isinstance(record, RecordUnreadable) else None


def _outcome_document(outcome: Outcome | RecordUnreadable | None, *, body: bool) -> dict[str, Any] | None:
    if not isinstance(outcome, Outcome):
        return None
    return {"status": outcome.status, **_message_document(outcome.headers, outcome.body, body=body)}


def _request_document(request: StoredRequest | RecordUnreadable | None, *, body: bool) -> dict[str, Any] | None:
    if not isinstance(request, StoredRequest):
        return None
    target = request.target.decode("ascii", "backslashreplace")
    return {
        "method": request.method,
        "target": target,
        **_message_document(request.headers, request.body, body=body),
    }


def _message_document(headers: Headers, content: bytes | None, *, body: bool) -> dict[str, Any]:
    members: dict[str, Any] = {
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in headers],
        "body_bytes": None if content is None else len(content),
    }
    if body and content is not None:
        members["body_base64"] = base64.b64encode(content).decode()
    return members


def _outcome_lines(outcome: Outcome | RecordUnreadable | None, *, body: bool) -> Iterator[str]:
    match outcome:
        case None:
            return
        case RecordUnreadable():
            yield f"outcome    {outcome}"
        case Outcome():
            yield click.style(f"outcome    {outcome.status}", bold=True)
            yield from _message_lines(outcome.headers, outcome.body, body=body)
    yield ""


def _request_lines(request: StoredRequest | RecordUnreadable | None, *, body: bool) -> Iterator[str]:
    match request:
        case None:
            return
        case RecordUnreadable():
            yield f"request    {request}"
        case StoredRequest():
            target = request.target.decode("ascii", "backslashreplace")
            yield (
                click.style(f"request    {printable(f'{request.method} {target}')}", bold=True) + "  kept for a re-run"
            )
            yield from _message_lines(request.headers, request.body, body=body)
    yield ""


def _message_lines(headers: Headers, content: bytes | None, *, body: bool) -> Iterator[str]:
    for name, value in headers:
        yield f"  {printable(name.decode('latin-1'))}: {printable(value.decode('latin-1'))}"
    if content is None:
        yield "  (the body was too large or streamed, and is not kept)"
    elif not content:
        yield "  (no body)"
    elif not body:
        yield f"  ({size(len(content))} of body, {_HIDDEN})"
    else:
        yield ""
        yield from _body_lines(content)


def _body_lines(content: bytes) -> Iterator[str]:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        yield f"  ({counted(len(content), 'byte')} that are no text; --json has them as base64)"
    else:
        yield printable(text, lines=True).rstrip("\n")
