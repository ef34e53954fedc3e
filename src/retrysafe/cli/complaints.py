"""Errors in the shape that people like: code, what, where, facts, fix, more. No traceback for what was expected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Any, Self

import click

from retrysafe.cli.terminal import say
from retrysafe.cli.words import printable
from retrysafe.errors import ConfigurationError, RetrySafeError, SchemaMismatch
from retrysafe.http.codes import code_of

FAILURE = 1
USAGE = 2


class Complaint(click.ClickException):
    """What a command could not do, and what to do about it; the process ends with 1."""

    exit_code = FAILURE

    def __init__(
        self,
        what: str,
        *,
        number: str | None = None,
        where: str | None = None,
        facts: Sequence[str] = (),
        fixes: Sequence[str] = (),
    ) -> None:
        """Keep the parts.

        Args:
            what: what is wrong, in a few words.
            number: such as ``E040``, when ``explain`` says more.
            where: a store, an operation, a module.
            facts: one line each.
            fixes: one line each; a second one is another way.
        """
        super().__init__(what)
        self._number, self._where, self._facts, self._fixes = number, where, tuple(facts), tuple(fixes)

    @classmethod
    def about(cls, error: RetrySafeError, *, where: str | None = None) -> Self:
        """Say an error of the library, with the fix from its table and a pointer to ``explain``."""
        code = code_of(error)
        what, facts, fixes = str(error), list[str](), [code.fix]
        match error:
            case ConfigurationError(problems=[only]):
                what, fixes = only, []
            case ConfigurationError():
                what, fixes = f"{len(error.problems)} problems", []
                facts = [f"{place}. {problem}" for place, problem in enumerate(error.problems, 1)]
            case SchemaMismatch() if error.found < error.needed:
                what = f"the store has schema version {error.found}, this code needs {error.needed}"
                fixes = [f"retrysafe migrate {where or 'STORE_URL'}", "read first what it would do: add --sql"]
            case SchemaMismatch():
                what = f"the store has schema version {error.found}, this code knows only {error.needed}"
                fixes = ["upgrade retrysafe"]
            case _:
                pass
        return cls(what, number=code.number, where=where, facts=facts, fixes=fixes)

    def text(self) -> str:
        """Write it out, over as many lines as it has parts."""
        head = click.style(f"error[{self._number}]" if self._number else "error", fg="red", bold=True)
        lines = [f"{head}: {printable(self.message, lines=True)}"]
        if self._where is not None:
            lines.append(f"  --> {printable(self._where)}")
        lines += [f"   |  {printable(fact, lines=True)}" for fact in self._facts]
        lines += [
            f"   = {word}: {printable(fix)}" for word, fix in zip(("fix", *["or "] * 9), self._fixes, strict=False)
        ]
        if self._number is not None:
            lines.append(f"   = more: retrysafe explain {self._number}")
        return "\n".join(lines)

    def show(self, file: IO[Any] | None = None) -> None:  # noqa: ARG002 - click's signature; errors go to standard error
        """Print it to standard error."""
        say(self.text(), err=True)


class Misuse(Complaint):
    """A command that was not understood, or names what does not exist; the process ends with 2."""

    exit_code = USAGE


class Commands(click.Group):
    """A group whose commands raise errors of the library as they are; here they become complaints."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - whatever the command returns
        """Run a command."""
        try:
            return super().invoke(ctx)
        except RetrySafeError as error:
            raise Complaint.about(error) from error
