"""The command: it gathers findings and reports them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict

import click

from retrysafe.cli.complaints import FAILURE
from retrysafe.cli.doctor.findings import Finding, Level, is_bad, lines
from retrysafe.cli.opening import STORE_URL, shown, store_argument
from retrysafe.cli.terminal import say, say_json


@click.command(short_help="Look for what is wrong, and how to put it right.")
@store_argument
@click.option("--app", "target", metavar="MODULE:ATTR", help="Import this application, or guard, and look at it too.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def doctor(ctx: click.Context, *, store_url: str | None, target: str | None, as_json: bool) -> None:
    """Look for what is wrong, and say how to put it right.

    Without STORE_URL and with --app the store of the application is looked at. Nothing is made or changed, except that
    an empty transaction is committed to see that it can be. Exits 1 when there is something to do.
    """
    findings = list(_findings(store_url or os.environ.get(STORE_URL), target))
    if as_json:
        say_json({"ok": not any(map(is_bad, findings)), "findings": [asdict(finding) for finding in findings]})
    else:
        say("\n".join(lines(findings)))
    ctx.exit(FAILURE if any(map(is_bad, findings)) else 0)


def _findings(store_url: str | None, target: str | None) -> Iterator[Finding]:
    from retrysafe.cli.doctor.application import application_checks, load, store_url_of  # noqa: PLC0415 - as below
    from retrysafe.cli.doctor.store import store_checks  # noqa: PLC0415 - help must not load what only a check needs

    yield Finding(Level.OK, "python", f"{sys.version.partition(' ')[0]} on {sys.platform}")
    app = None if target is None else load(target)
    if store_url is None and app is not None:
        store_url = store_url_of(app)
    if store_url is not None:
        yield Finding(Level.OK, "store", shown(store_url))
        yield from store_checks(store_url)
    elif app is None:
        yield Finding(Level.INFO, "store", "not looked at", f"give STORE_URL, or set {STORE_URL}")
    if app is not None:
        yield from application_checks(app)
