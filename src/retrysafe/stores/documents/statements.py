"""The statements of programs on documents: how a program asks for them, and how a port performs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from retrysafe.stores.documents.port import AsyncPort, Change, Found, Index, Line, Loaded, Place, Port, Shown
from retrysafe.stores.program import Answer, Program, Statement

_FOREIGN = "this program was made for another store: "


def fetch(port: Port, statement: Statement) -> Answer:
    """Perform a statement of these programs."""
    terms: Sequence[Any] = statement.parameters
    match statement.text:
        case "load":
            return Answer(port.load(*terms))
        case "write":
            return Answer([(revision,) for revision in port.write(*terms)])
        case "find":
            return Answer(port.find(*terms))
        case "newest":
            return Answer(port.newest(*terms))
        case "append":
            port.append(*terms)
            return Answer()
        case "lines":
            return Answer(port.lines(*terms))
        case _:
            raise TypeError(_FOREIGN + statement.text)


async def afetch(port: AsyncPort, statement: Statement) -> Answer:
    """Perform a statement of these programs on an event loop."""
    terms: Sequence[Any] = statement.parameters
    match statement.text:
        case "load":
            return Answer(await port.load(*terms))
        case "write":
            return Answer([(revision,) for revision in await port.write(*terms)])
        case "find":
            return Answer(await port.find(*terms))
        case "newest":
            return Answer(await port.newest(*terms))
        case "append":
            await port.append(*terms)
            return Answer()
        case "lines":
            return Answer(await port.lines(*terms))
        case _:
            raise TypeError(_FOREIGN + statement.text)


def load(digests: Sequence[bytes]) -> Program[list[Loaded]]:
    """Read documents, those that are there."""
    if not digests:
        return []
    answer = yield Statement("load", (digests,))
    return [Loaded(*row) for row in answer.rows]


def write(changes: Sequence[Change]) -> Program[list[Any]]:
    """Carry out changes; for each its revision, or None."""
    if not changes:
        return []
    answer = yield Statement("write", (changes,))
    return [revision for (revision,) in answer.rows]


def find(index: Index, by: float, after: Place | None, limit: int) -> Program[list[Found]]:
    """List what an index has up to an instant."""
    answer = yield Statement("find", (index, by, after, limit))
    return [Found(*row) for row in answer.rows]


def newest(after: Place | None, limit: int) -> Program[list[Shown]]:
    """List all documents, the newest first."""
    answer = yield Statement("newest", (after, limit))
    return [Shown(*row) for row in answer.rows]


def append(line_id: str, operation_id: str, body: bytes) -> Program[None]:
    """Add a line to the audit."""
    yield Statement("append", (line_id, operation_id, body))


def lines(operation_id: str | None, limit: int) -> Program[list[Line]]:
    """List the audit, newest first."""
    answer = yield Statement("lines", (operation_id, limit))
    return [Line(*row) for row in answer.rows]
