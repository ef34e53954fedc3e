"""``retrysafe ops audit``: what persons did to operations, and why (R10)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import click

from retrysafe.cli.arguments import which
from retrysafe.cli.opening import given, opened
from retrysafe.cli.operations import find
from retrysafe.cli.terminal import say, say_json
from retrysafe.cli.words import instant, iso, printable, shortest_ids
from retrysafe.protocol.operator import Audit
from retrysafe.stores.base import Store

MOST = 1000


@click.command("audit", short_help="List what persons did.")
@click.argument("arguments", nargs=-1, metavar="[STORE_URL] [OPERATION_ID]")
@click.option("--limit", type=click.IntRange(1, MOST), default=50, show_default=True, help="How many at most.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def audit(*, arguments: Sequence[str], limit: int, as_json: bool) -> None:
    """List what persons did to operations, or to one of them, newest first.

    The audit is append-only, and outlives the operations.
    """
    store_url, beginning = _which(arguments)
    with opened(store_url) as store:
        operation_id = None if beginning is None else _whole_id(store, beginning)
        lines = store.query(partial(store.verbs.audit, operation_id, limit))
    if as_json:
        say_json({"audit": [audit_document(line) for line in lines]})
    elif lines:
        say("\n".join(audit_lines(lines)))
    else:
        say("nobody did anything by hand")


def audit_document(line: Audit) -> dict[str, Any]:
    """Return what programs see of a line."""
    return {
        "number": line.number,
        "at": iso(line.at),
        "operation": line.operation_id,
        "verb": line.verb.value,
        "by": line.by,
        "note": line.note,
        "state_before": line.state_before.value,
        "state_after": line.state_after.value,
        "fence_after": line.fence_after,
    }


def audit_lines(lines: Sequence[Audit], *, alone: bool = False) -> Iterator[str]:
    """Write lines for people, as a table.

    Args:
        lines: at least one.
        alone: they are all about one operation, which need not be named.
    """
    length = shortest_ids(line.operation_id for line in lines)
    rows = [
        (
            instant(line.at),
            *([] if alone else [line.operation_id[:length]]),
            f"{line.verb}",
            f"{line.state_before} → {line.state_after}",
            f"fence {line.fence_after}",
            f"{printable(line.by)}: {printable(line.note)}",
        )
        for line in lines
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _which(arguments: Sequence[str]) -> tuple[str, str | None]:
    match arguments:
        case []:
            return given(None), None
        case [store_url] if "://" in store_url:
            return store_url, None
        case _:
            return which("audit", arguments)


def _whole_id(store: Store, beginning: str) -> str:
    """Find the operation whose id begins like this; it may be purged, and only the audit know of it."""
    prefix = beginning.strip().rstrip("….").lower()
    latest = store.query(partial(store.verbs.audit, None, MOST))
    known = {line.operation_id for line in latest if line.operation_id.startswith(prefix)}
    if prefix in known:
        return prefix
    return known.pop() if prefix and len(known) == 1 else find(store, beginning).operation_id
