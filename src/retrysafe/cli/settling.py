"""The outcome that a person found out, made of options of the command line."""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass
from pathlib import Path

from retrysafe.cli.complaints import Misuse
from retrysafe.errors import OperationUndone, RecordUnreadable
from retrysafe.http.problem import problem_response
from retrysafe.http.replay import outcome_of
from retrysafe.protocol.encoding import decode_outcome
from retrysafe.protocol.model import Checkpoint, Outcome, Response

_WITHOUT_BODY = frozenset({204, 304})
_JSON, _TEXT, _BYTES = "application/json", "text/plain; charset=utf-8", "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What a person says that an operation came to.

    Attributes:
        status: of the answer; None only when it was undone.
        body: its text, or ``@`` and the name of a file.
        content_type: of the body; None tells it by the body.
        undone: every effect was taken back.
        retention_seconds: how long the answer is replayable.
    """

    status: int | None
    body: str | None
    content_type: str | None
    undone: bool
    retention_seconds: float

    def check(self) -> None:
        """See that the options go together.

        Raises:
            Misuse: they don't.
        """
        if self.status is None and not self.undone:
            raise Misuse("`settle` needs the outcome: --status N says what the client is answered, or --undone")
        if self.status is None and self.body is not None:
            raise Misuse("--body needs --status: what is the answer's status?")
        if self.body is None and self.content_type is not None:
            raise Misuse("--content-type needs --body")
        if self.body is not None and self.status in _WITHOUT_BODY:
            raise Misuse(
                f"an answer with status {self.status} has no body: leave out --body, or choose another --status"
            )
        if self.content_type is not None and not (self.content_type.isascii() and self.content_type.isprintable()):
            raise Misuse("--content-type is no media type: write one such as application/json")

    def outcome(self, seen: Checkpoint) -> Outcome:
        """Return what the checkpoint is to keep.

        An operation that was undone keeps what it had answered itself, or is answered 409 ``operation-undone``.

        Raises:
            Misuse: the file cannot be read.
        """
        if self.status is not None:
            return outcome_of(self._response(self.status))
        pending = _pending(seen)
        return outcome_of(problem_response(OperationUndone(seen.operation_id))) if pending is None else pending

    def _response(self, status: int) -> Response:
        if self.body is None:
            return Response(status)
        name = self.body.removeprefix("@") if self.body.startswith("@") else None
        content = self.body.encode("utf-8", "surrogateescape") if name is None else _content(name)
        return Response(status, content, {"Content-Type": self.content_type or _content_type(content, name)})


def _pending(seen: Checkpoint) -> Outcome | None:
    try:
        return None if seen.outcome is None else decode_outcome(seen.outcome)
    except RecordUnreadable:
        return None


def _content(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise Misuse(f"--body can't be read from {name!r}: {error.strerror}") from error


def _content_type(content: bytes, name: str | None) -> str:
    if name is not None and (known := mimetypes.guess_type(name)[0]) is not None:
        return known
    try:
        text = content.decode().lstrip()
    except UnicodeDecodeError:
        return _BYTES
    return _JSON if text.startswith(("{", "[")) else _TEXT
