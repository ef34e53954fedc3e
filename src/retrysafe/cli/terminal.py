"""What reaches the terminal: plain lines, JSON, and tables by rich, which only those commands import that draw them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click
import msgspec

if TYPE_CHECKING:
    from rich.console import Console

_ASCII = str.maketrans(
    {"●": "*", "○": "o", "✗": "x", "✓": "+", "◆": "#", "↩": "<", "│": "|", "┃": "|", "┊": ":", "·": "-", "≈": "~"}
    | {"…": "...", "→": "->"}
)
_WIDE = 100_000


def colours() -> bool | None:
    """Tell click about colours: None leaves it to the stream, False is what ``NO_COLOR`` asks for."""
    return False if os.environ.get("NO_COLOR") else None


def say(text: str = "", *, err: bool = False) -> None:
    """Print lines to standard output, or to standard error; signs that its encoding lacks are replaced."""
    stream = sys.stderr if err else sys.stdout
    encoding = stream.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    click.echo(text, err=err, color=colours())


def asked() -> bool:
    """Tell whether a person sits there who can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def say_json(document: object, *, one_line: bool = False) -> None:
    """Print a JSON document: indented, or on one line where several follow each other."""
    text = msgspec.json.encode(document)
    say((text if one_line else msgspec.json.format(text, indent=2)).decode())


def console() -> Console:
    """Make a rich console for standard output. What goes through a pipe is not folded, so that a row stays a line."""
    from rich.console import Console  # noqa: PLC0415 - dear, and help needs no table

    if sys.stdout.isatty():
        return Console(highlight=False, markup=False, emoji=False)
    return Console(highlight=False, markup=False, emoji=False, width=_WIDE)
