"""Everything that is known about one operation, for people and for programs."""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click

from retrysafe.cli.audit import audit_document, audit_lines
from retrysafe.cli.operations import document, state_word
from retrysafe.cli.prospects import allowed
from retrysafe.cli.steps import step_documents, step_moments
from retrysafe.cli.timeline import Moment, drawn, moments
from retrysafe.cli.words import counted, iso, printable, size
from retrysafe.errors import RecordUnreadable
from retrysafe.http.codes import OUTCOME_UNKNOWN
from retrysafe.protocol.encoding import decode_outcome, decode_request
from retrysafe.protocol.model import Checkpoint, Headers, Outcome, StoredRequest
from retrysafe.protocol.operator import Audit
from retrysafe.protocol.states import FINAL, State
from retrysafe.protocol.steps import History

_COLOURS = {"abandoned": "red", "parked": "yellow", "done": "green", "running": "cyan", "streaming": "cyan"}
_WIDTH = 120
_HIDDEN = "hidden: --body shows it"


@dataclass(frozen=True, slots=True)
class Sheet:
    """One operation, to be written for people or for programs.

    Attributes:
        history: its checkpoint and its memos.
        audit: what persons did to it, newest first.
        body: also bodies.
        results: also what steps gave, and what they were called with.
    """

    history: History
    audit: Sequence[Audit]
    body: bool
    results: bool

    def document(self) -> dict[str, Any]:
        """Return what programs see; bodies are base64."""
        seen = self.history.checkpoint
        outcome, request = _outcome(seen), _request(seen)
        course = [{"at": iso(moment.at) if moment.noted else None, "what": moment.text} for moment in self._course()]
        return document(seen) | {
            "attempt_id": seen.attempt_id,
            "identity": seen.digest.hex(),
            "fingerprint": seen.fingerprint.hex(),
            "outcome": _unreadable(outcome) or _outcome_document(outcome, body=self.body),
            "request": _unreadable(request) or _request_document(request, body=self.body),
            "steps": step_documents(self.history, results=self.results),
            "timeline": course,
            "allowed": {verb.value: what for verb, what in allowed(self.history)},
            "audit": [audit_document(line) for line in self.audit],
        }

    def lines(self) -> Iterator[str]:
        """Write it as lines."""
        seen = self.history.checkpoint
        word = state_word(seen)
        state = click.style(word, fg=_COLOURS.get(word, "magenta"), bold=True)
        yield f"{click.style(seen.operation_id, bold=True)}  {state}"
        yield f"{printable(seen.name)} · mode {seen.mode}"
        yield ""
        yield from _facts(seen)
        yield ""
        yield from drawn(self._course())
        yield ""
        when = "  once it is undone" if seen.state is State.UNDOING else ""
        yield from _outcome_lines(_outcome(seen), when, body=self.body)
        yield from _request_lines(_request(seen), body=self.body)
        yield from self._allowed_lines()
        if self.audit:
            yield click.style("audit", bold=True)
            yield from (f"  {line}" for line in audit_lines(self.audit, alone=True))
            yield ""
        if seen.state is State.PARKED:
            yield f"   = fix: {OUTCOME_UNKNOWN.fix}"
            yield f"   = more: retrysafe explain {OUTCOME_UNKNOWN.number}"

    def _course(self) -> Sequence[Moment]:
        steps = step_moments(self.history, results=self.results)
        return moments(self.history.checkpoint, steps, self.audit)

    def _allowed_lines(self) -> Iterator[str]:
        seen = self.history.checkpoint
        verbs = list(allowed(self.history))
        if not verbs:
            return
        command = f"retrysafe ops VERB {seen.operation_id} --fence {seen.fence} --by NAME --note TEXT"
        yield f"{click.style('a person may', bold=True)}  {command}"
        for verb, what in verbs:
            text = textwrap.fill(f"{what}.", _WIDTH, initial_indent=" " * 11, subsequent_indent=" " * 11)
            yield f"  {click.style(f'{verb:<8}', bold=True)}{text[10:]}"
        yield ""


def _facts(seen: Checkpoint) -> Iterator[str]:
    facts = {
        "principal": printable(seen.principal) or "(all callers share one scope)",
        "namespace": printable(seen.namespace),
        "key": printable(seen.key_hint) if seen.key_hint else "(no hint is kept)",
        "attempts": f"{seen.attempt}, of which {seen.deaths} ended without an outcome" if seen.deaths else seen.attempt,
        "fence": seen.fence,
        "version": seen.version if seen.version > 1 else "",
        "direction": "back: it began to be undone" if seen.undoing and seen.state not in FINAL else "",
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


def _outcome_lines(outcome: Outcome | RecordUnreadable | None, when: str, *, body: bool) -> Iterator[str]:
    match outcome:
        case None:
            return
        case RecordUnreadable():
            yield f"outcome    {outcome}"
        case Outcome():
            yield click.style(f"outcome    {outcome.status}", bold=True) + when
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
