"""``retrysafe ops``: look at operations in a store, and settle what recovery could not."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import click

from retrysafe.cli.arguments import read, which
from retrysafe.cli.audit import MOST, audit
from retrysafe.cli.complaints import Complaint
from retrysafe.cli.interventions import release, resume, settle, undo
from retrysafe.cli.opening import opened, store_argument
from retrysafe.cli.operations import ABANDONED, Wanted, document, find, listed
from retrysafe.cli.terminal import say, say_json
from retrysafe.errors import RetrySafeError
from retrysafe.protocol.model import Checkpoint
from retrysafe.protocol.states import State
from retrysafe.stores.base import Store


def _pause(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Read the seconds of ``--watch``; they may be left out, so the word behind it may be something else."""
    if value is None:
        return None
    with suppress(ValueError):
        seconds = float(value)
        if math.isfinite(seconds) and seconds > 0:
            return seconds
    raise click.BadParameter(f"{value!r} is no positive number of seconds: put --watch last, or write --watch=2")


@click.group(short_help="Look at the operations in a store, and settle them.")
def ops() -> None:
    """Look at the operations in a store, and settle those that recovery could not.

    STORE_URL may come from the environment as RETRYSAFE_STORE_URL.
    """


@ops.command("ls", short_help="List operations, newest first.")
@store_argument
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([*(state.value for state in State), ABANDONED]),
    help="Only in this state; may be given again.",
)
@click.option("--parked", is_flag=True, help="The same as --state parked: a person must settle them.")
@click.option("--abandoned", is_flag=True, help="Those whose lease is over without an outcome.")
@click.option("--name", metavar="NAME", help="Only with this operation name, such as 'POST /charges'.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many at most.")
@click.option("--after", metavar="ID", help="Go on behind this operation: the last one of the page before.")
@click.option("--json", "as_json", is_flag=True, help="For programs: full ids, instants, everything a row has.")
@click.option(
    "--watch",
    is_flag=False,
    flag_value="2",
    callback=_pause,
    metavar="[SECONDS]",
    help="Again and again; every 2 seconds if left out.",
)
def ls(
    *,
    store_url: str | None,
    states: Sequence[str],
    parked: bool,
    abandoned: bool,
    name: str | None,
    limit: int,
    after: str | None,
    as_json: bool,
    watch: float | None,
) -> None:
    """List operations, newest first.

    --state, --parked and --abandoned add to each other. An operation is shown as abandoned when it is not final and
    its lease is over; the store calls it running until somebody takes it over or parks it. "next" says what recovery
    does with it, and when.
    """
    chosen = [State(state) for state in states if state != ABANDONED] + [State.PARKED] * parked
    with opened(store_url) as store:
        wanted = Wanted(
            states=frozenset(chosen),
            abandoned=abandoned or ABANDONED in states,
            name=name,
            after=None if after is None else find(store, after).operation_id,
            limit=limit,
        )
        if as_json:
            _list_json(store, wanted, watch)
        else:
            _list(store, wanted, watch)


def _list(store: Store, wanted: Wanted, watch: float | None) -> None:
    from retrysafe.cli import listing  # noqa: PLC0415 - rich is dear, and help needs no table

    filtered = bool(wanted.states or wanted.abandoned or wanted.name or wanted.after)
    nothing = "no operation matches" if filtered else "no operations yet: the first request with a key makes one"
    if watch is not None:
        listing.watch(partial(_read, store, wanted), nothing, watch)
        return
    page = listed(store, wanted)
    more = f"more: --after {page[-1].operation_id}" if len(page) == wanted.limit else None
    listing.show(page, nothing, more)


def _list_json(store: Store, wanted: Wanted, watch: float | None) -> None:
    """Print one document, or one line for each look."""
    with suppress(KeyboardInterrupt):
        while True:
            page = listed(store, wanted)
            after = page[-1].operation_id if len(page) == wanted.limit else None
            say_json({"operations": [document(seen) for seen in page], "after": after}, one_line=watch is not None)
            if watch is None:
                return
            time.sleep(watch)


def _read(store: Store, wanted: Wanted) -> Sequence[Checkpoint]:
    try:
        return listed(store, wanted)
    except RetrySafeError as error:
        raise Complaint.about(error) from error


@ops.command("show", short_help="Show everything about one operation.")
@click.argument("arguments", nargs=-1, metavar="[STORE_URL] OPERATION_ID")
@click.option("--body", is_flag=True, help="Show bodies too, which may hold anything your clients sent.")
@click.option("--results", is_flag=True, help="Show what steps gave and were called with, too.")
@click.option("--json", "as_json", is_flag=True, help="For programs; bodies are base64.")
def show(*, arguments: Sequence[str], body: bool, results: bool, as_json: bool) -> None:
    """Show everything about one operation, and what a person may do with it.

    The beginning of OPERATION_ID is enough. With RETRYSAFE_STORE_URL set, OPERATION_ID alone will do.
    """
    from retrysafe.cli.sheet import Sheet  # noqa: PLC0415 - needed by this command only

    store_url, operation_id = which("show", arguments)
    with opened(store_url) as store:
        history = read(store, operation_id)
        lines = store.query(partial(store.verbs.audit, history.checkpoint.operation_id, MOST))
    sheet = Sheet(history, lines, body=body, results=results)
    if as_json:
        say_json(sheet.document())
    else:
        say("\n".join(sheet.lines()).rstrip("\n"))


for command in (audit, release, resume, settle, undo):
    ops.add_command(command)
