"""Verbs as programs, so that SQL, parameters and decoding exist once for sync and async.

A program is a generator: it yields statements, gets an answer to each, and returns a decoded reply. A driver runs it
inside one transaction of its database. Programs are restartable: whoever runs one holds a factory for it and may start
it again after a serialization failure or a commit of unknown result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

T = TypeVar("T")
V = ParamSpec("V")

Rows = Sequence[Sequence[Any]]


class Batch(NamedTuple):
    """What a driver must know to run the same statement of many programs as one.

    Attributes:
        name: of the statement's wording for many rows, as the dialect calls it; None where there is none, and the
            statement can only be run by itself.
        key: so many leading parameters name the row that is written, its digest first. The rows that are answered
            begin with the same, followed by whether the row was written.
    """

    name: str | None = None
    key: int = 0


class Statement(NamedTuple):
    """One statement for a database.

    Attributes:
        text: the statement, with the database's own placeholders.
        parameters: its parameters.
        batch: how a driver may run it outside of a transaction, where a :class:`Whole` program begins with it.
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


ALONE = Batch()
"""For a statement that a driver may run outside of a transaction, but not together with others."""

Program = Generator[Statement, Answer, T]
Factory = Callable[[], Program[T]]


class Whole(Generator[Statement, Answer, T]):
    """A program that ends with the answer to its first statement if that has written something.

    So a driver may run that statement outside of a transaction, or together with those of others (``batching.py``), and
    only when the program goes on start it again, in a transaction. A program that such a one is part of is not one: its
    statements belong into one transaction.
    """

    __slots__ = ("_program",)

    def __init__(self, program: Program[T]) -> None:
        self._program = program

    def send(self, answer: Answer, /) -> Statement:
        """Give the answer to a statement, and get the next one."""
        return self._program.send(answer)

    def throw(self, *raised: Any) -> Statement:  # noqa: ANN401 - as generators have it
        """Raise an exception in the program."""
        return self._program.throw(*raised)


def whole(verb: Callable[V, Program[T]]) -> Callable[V, Program[T]]:
    """Make a verb's program a :class:`Whole` one."""

    @wraps(verb)
    def made(*args: V.args, **options: V.kwargs) -> Program[T]:
        return Whole(verb(*args, **options))

    return made


def run(program: Program[T], fetch: Callable[[Statement], Answer], first: Statement | None = None) -> T:
    """Run a program to its end with a blocking ``fetch``.

    Args:
        program: what to run.
        fetch: runs a statement.
        first: its first statement, if somebody has asked it for that already.
    """
    try:
        statement = first or next(program)
        while True:
            statement = program.send(fetch(statement))
    except StopIteration as end:
        reply: T = end.value
        return reply


async def arun(
    program: Program[T], fetch: Callable[[Statement], Awaitable[Answer]], first: Statement | None = None
) -> T:
    """Run a program to its end with a ``fetch`` that is awaited; see :func:`run`."""
    try:
        statement = first or next(program)
        while True:
            statement = program.send(await fetch(statement))
    except StopIteration as end:
        reply: T = end.value
        return reply
