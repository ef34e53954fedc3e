"""Verbs as programs, so that SQL, parameters and decoding exist once for sync and async.

A program is a generator: it yields statements, gets an answer to each, and returns a decoded reply. A driver runs it
inside one transaction of its database. Programs are restartable: whoever runs one holds a factory for it and may start
it again after a serialization failure or a commit of unknown result.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

Rows = Sequence[Sequence[Any]]


class Batch(NamedTuple):
    """What a driver must know to run the same statement of many programs as one.

    Attributes:
        name: of the statement's wording for many rows, as the dialect calls it.
        key: so many leading parameters name the row that is written, its digest first.
    """

    name: str
    key: int


class Statement(NamedTuple):
    """One statement for a database.

    Attributes:
        text: the statement, with the database's own placeholders.
        parameters: its parameters.
        batch: given where a program begins with it and mostly ends with its answer: then a driver may run it by itself,
            or together with others (``batching.py``), and only when the program goes on start that program again, in a
            transaction. None for every other statement.
    """

    text: str
    parameters: Sequence[Any] = ()
    batch: Batch | None = None


class Answer(NamedTuple):
    """What a database answered to one statement.

    Attributes:
        rows: what it selected or returned.
        changed: how many rows a write without ``RETURNING`` inserted, updated or deleted; 0 for anything else. A fenced
            write is accepted or refused by this number alone, which spares reading rows back.
    """

    rows: Rows = ()
    changed: int = 0


Program = Generator[Statement, Answer, T]
Factory = Callable[[], Program[T]]


def run(program: Program[T], fetch: Callable[[Statement], Answer]) -> T:
    """Run a program to its end with a blocking ``fetch``."""
    try:
        statement = next(program)
        while True:
            statement = program.send(fetch(statement))
    except StopIteration as end:
        reply: T = end.value
        return reply
