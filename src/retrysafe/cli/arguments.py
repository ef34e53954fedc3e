"""What commands about one operation are given: a store, an operation, what a person says."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import click

from retrysafe.cli.complaints import Complaint, Misuse
from retrysafe.cli.opening import given
from retrysafe.cli.operations import find
from retrysafe.protocol.steps import History
from retrysafe.stores.base import Store
from retrysafe.stores.urls import read_seconds


def which(command: str, arguments: Sequence[str]) -> tuple[str, str]:
    """Tell the store and the operation apart, in either order; with the environment's store, the operation is alone.

    Raises:
        Misuse: there is no operation, or too much.
    """
    urls = [word for word in arguments if "://" in word]
    match [word for word in arguments if "://" not in word]:
        case [operation_id] if len(urls) <= 1:
            return urls[0] if urls else given(None), operation_id
        case _:
            raise Misuse(
                "which operation?",
                fixes=[f"retrysafe ops {command} STORE_URL OPERATION_ID", "retrysafe ops ls STORE_URL lists them"],
            )


def read(store: Store, beginning: str) -> History:
    """Read the one operation whose id begins like this, with its steps, as of one moment.

    Raises:
        Misuse: there is none, or more than one.
        Complaint: it was purged just now.
    """
    listed = find(store, beginning)
    history = store.query(partial(store.verbs.trail, listed.digest))
    if history is None or history.checkpoint.operation_id != listed.operation_id:
        raise Complaint(f"operation {listed.operation_id} was purged just now")
    return history


def line(text: str) -> str:
    """Read a line that a person says.

    Raises:
        click.BadParameter: it is more than a line, or no text.
    """
    if not text.strip().isprintable():
        raise click.BadParameter("write one line of text")
    return text.strip()


def said(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Read an option with a line of text; blanks are nothing."""
    return (line(value) or None) if value is not None else None


def seconds(_: click.Context, parameter: click.Parameter, value: str) -> float:
    """Read a duration such as ``24h``, in seconds."""
    try:
        return read_seconds(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from None
