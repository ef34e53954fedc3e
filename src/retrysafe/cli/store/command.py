"""The commands: what they are given and what they print."""

from __future__ import annotations

from dataclasses import asdict

import click

from retrysafe.cli.complaints import FAILURE, Complaint
from retrysafe.cli.opening import given, shown, store_argument
from retrysafe.cli.terminal import say, say_json
from retrysafe.errors import RetrySafeError


@click.group(short_help="Check and measure a store, whoever wrote it.")
def store() -> None:
    """Check and measure a store, whoever wrote it.

    Both commands write into the store, so they refuse one that was used before; --scratch says that it may be.
    STORE_URL may come from the environment as RETRYSAFE_STORE_URL.
    """


@store.command(short_help="Check that a store keeps every promise.")
@store_argument
@click.option("--scratch", is_flag=True, help="The store was used before, and whatever is in it may be lost.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def conformance(ctx: click.Context, *, store_url: str | None, scratch: bool, as_json: bool) -> None:
    """Check that a store keeps every promise, through each of its faces; needs pytest.

    It runs the contract of stores: a line for each promise that is broken, with its rule. The store is emptied before
    each promise. Its tables stay, its audit gets lines, and its clock may have run ahead for years, so use one that
    nobody needs. Exits 1 when a promise is broken.
    """
    from retrysafe.cli.store.conformance import checked, report  # noqa: PLC0415 - help must not load what it needs

    url = given(store_url)
    found = checked(url, scratch=scratch)
    if as_json:
        say_json({"store": shown(url), **found.document()})
    else:
        say("\n".join(report(found)))
    ctx.exit(0 if found.ok else FAILURE)


@store.command(short_help="Measure how fast a store is.")
@store_argument
@click.option("--pairs", type=click.IntRange(1, 20_000), default=2000, show_default=True, help="Most in each slice.")
@click.option(
    "--seconds", type=click.FloatRange(0.1, 3600), default=3.0, show_default=True, help="Most for each slice."
)
@click.option("--scratch", is_flag=True, help="The store was used before; what is in it stays.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def bench(*, store_url: str | None, pairs: int, seconds: float, scratch: bool, as_json: bool) -> None:
    """Measure how fast a store is: pairs of a claim and the record of an outcome of 1 KiB, at 1, 16 and 64 at once.

    With threads through its sync face, and with tasks on one event loop through its async face. Its operations have a
    name of their own, are over within a second, and are purged at the end.
    """
    from retrysafe.cli.store.bench import lines, measured  # noqa: PLC0415 - as above

    url = given(store_url)
    try:
        found = measured(url, pairs=pairs, seconds=seconds, scratch=scratch)
    except RetrySafeError as error:
        raise Complaint.about(error, where=shown(url)) from error
    if as_json:
        say_json({"store": shown(url), **asdict(found)})
    else:
        say("\n".join(lines(found)))
