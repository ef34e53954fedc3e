"""``retrysafe explain``: what an error means and what to do."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

import click

from retrysafe.cli.complaints import Complaint, Misuse
from retrysafe.cli.terminal import say, say_json
from retrysafe.http.codes import ALL, Code, find

_WIDTH = 100
_LEAST_ALIKE = 0.5


@click.command(short_help="Say what an error means: E021, key-reused.")
@click.argument("code", required=False, metavar="[CODE]")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def explain(*, code: str | None, as_json: bool) -> None:
    """Say what an error means: by number (E021) or by problem code (key-reused).

    Without CODE all are listed.
    """
    found = ALL if code is None else find(code)
    if not found:
        raise _unknown(code or "")
    if as_json:
        say_json({"codes": [_document(row) for row in found]})
    elif code is None:
        width = max(len(row.code) for row in ALL)
        for row in ALL:
            first = row.what.partition(". ")[0].rstrip(".")
            say(f"{click.style(row.number, bold=True)}  {row.status}  {row.code:<{width}}  {first}.")
    else:
        say("\n\n".join("\n".join(_page(row)) for row in found))


def _unknown(code: str) -> Complaint:
    names = {name.lower(): row for row in ALL for name in (row.number, row.code)}
    near = {names[name] for name in get_close_matches(code.lower(), names, n=3, cutoff=_LEAST_ALIKE)}
    hints = [f"{row.number}  {row.code}" for row in ALL if row in near]
    return Misuse(
        f"there is no error {code!r}",
        facts=["did you mean", *hints] if hints else [],
        fixes=["retrysafe explain lists all"],
    )


def _page(row: Code) -> Iterator[str]:
    yield click.style(f"{row.number} {row.code}", bold=True) + f" · {row.status} {row.title}"
    for name, text in (("what", row.what), ("why", row.why), ("fix", row.fix)):
        yield ""
        yield textwrap.fill(text, _WIDTH, initial_indent=f"  {name:<5} ", subsequent_indent=" " * 8)
    yield ""
    yield f"  wire  {row.type}"
    yield f"        {_advice(row)}"


def _advice(row: Code) -> str:
    same = "worth a retry with the same key" if row.retryable else "a retry with the same key changes nothing by itself"
    match row.new_key_safe:
        case True:
            return f"{same}; a new key is safe"
        case False:
            return f"{same}; a new key is not safe: it may do the thing twice"
        case None:
            return same


def _document(row: Code) -> dict[str, Any]:
    names = ("number", "code", "status", "type", "title", "retryable", "new_key_safe", "retry_after_seconds")
    return {name: getattr(row, name) for name in (*names, "what", "why", "fix")}
