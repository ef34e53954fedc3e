"""What was measured, as tables for a person who waits for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

_DASH = "–"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        title: its head.
        field: which field of a row.
        form: how a number is written, such as ``.2f``; empty for text.
    """

    title: str
    field: str
    form: str = ""

    def cell(self, row: dict[str, Any]) -> str:
        """Write a row's field."""
        value = row.get(self.field)
        match value:
            case None:
                return _DASH
            case dict():
                return _DASH if not value else "; ".join(f"{what} ({times:,} times)" for what, times in value.items())
            case _:
                return format(value, self.form) if self.form else str(value)


_HTTP = (
    Column("app", "app"),
    Column("conns", "connections", "d"),
    Column("guard", "guard"),
    Column("keys", "kind"),
    Column("req/s", "requests_per_second", ",.0f"),
    Column("ratio", "ratio", ".2f"),
    Column("low", "ratio_low", ".2f"),
    Column("high", "ratio_high", ".2f"),
    Column("p50 ms", "p50_ms", ".2f"),
    Column("p99 ms", "p99_ms", ".2f"),
    Column("CPU µs", "cpu_us", ".0f"),
    Column("CPU ratio", "cpu_ratio", ".2f"),
)
_PEERS = (
    Column("package", "package"),
    Column("store", "store"),
    *_HTTP[3:11],
    Column("what it did wrong", "faults"),
    Column("skipped", "skipped"),
)
_ALONE = (
    Column("store", "store"),
    Column("added µs", "added_us", ",.0f"),
    Column("bare statements µs", "statements_us", ",.0f"),
    Column("beyond µs", "beyond_us", ",.0f"),
)
_STORES = (
    Column("store", "store"),
    Column("tasks", "tasks", "d"),
    Column("pairs/s", "pairs_per_second", ",.0f"),
    Column("p50 ms", "p50_ms", ".2f"),
    Column("p99 ms", "p99_ms", ".2f"),
    Column("claim p99 ms", "claim_p99_ms", ".2f"),
    Column("CPU µs/pair", "cpu_us", ".0f"),
)
_ADAPTER = (
    Column("keys", "kind"),
    Column("whole", "whole_cpu_us", ".1f"),
    Column("application", "app_cpu_us", ".1f"),
    Column("store", "store_cpu_us", ".1f"),
    Column("protocol + adapter", "cpu_us", ".1f"),
    Column("low", "cpu_us_low", ".1f"),
    Column("high", "cpu_us_high", ".1f"),
)
_MEMORY = (
    Column("store", "store"),
    Column("state", "state"),
    Column("bytes each", "bytes", ",.0f"),
    Column("rewritten", "rewritten_bytes", ",.0f"),
    Column("of that, request and response", "kept_bytes", ",d"),
    Column("purged/s", "purged_per_second", ",.0f"),
)
_RECOVERY = (
    Column("store", "store"),
    Column("workers", "workers", "d"),
    Column("abandoned", "operations", ",d"),
    Column("recovered/s", "per_second", ",.0f"),
    Column("CPU µs each", "cpu_us", ",.0f"),
    Column("twice", "twice", "d"),
    Column("left", "left", "d"),
)
_GROWTH = (
    Column("store", "store"),
    Column("rows", "rows", ",d"),
    Column("MB", "megabytes", ",.0f"),
    *_STORES[2:6],
    Column("pairs/s, purging", "purging_pairs_per_second", ",.0f"),
    Column("claim p99 ms, purging", "purging_claim_p99_ms", ".2f"),
    Column("ratio", "purging_claim_p99_ratio", ".2f"),
    Column("purged meanwhile", "purged_in_a_slice", ",.0f"),
)
_TABLES = {
    "adapter": ("Protocol and ASGI adapter alone: CPU µs per request, memory store", _ADAPTER),
    "stores": ("Stores: pairs of one claim and one record", _STORES),
    "alone": ("Alone: one connection to bare ASGI, beside the statements sent bare", _ALONE),
    "http": ("HTTP: one worker; ratio to the unguarded application of the same round", _HTTP),
    "peers": ("Peers: FastAPI, 64 connections; ratio to the unguarded application of the same round", _PEERS),
    "memory": ("What a checkpoint takes", _MEMORY),
    "recovery": ("Recovery: abandoned operations of one step, by workers that are started for them", _RECOVERY),
    "growth": ("Growth: pairs from 64 tasks, and with a purge beside", _GROWTH),
}


def show(run: dict[str, Any], sections: dict[str, list[dict[str, Any]]], console: Console) -> None:
    """Print everything; plain text where no terminal is."""
    console.print(_head(run), highlight=False, soft_wrap=True)
    for section, found in sections.items():
        title, columns = _TABLES[section]
        rows = [[column.cell(row) for column in columns] for row in found]
        console.print()
        if console.is_terminal:
            console.print(_rich(title, columns, rows))
        else:
            console.print(_plain(title, columns, rows), highlight=False, markup=False, soft_wrap=True)
    console.print()
    for line in run["skipped"]:
        console.print(f"skipped: {line}", highlight=False, markup=False, soft_wrap=True)
    console.print(_verdict(run["checks"]), highlight=False, soft_wrap=True)
    for problem in run["checks"]["problems"]:
        console.print(f"  {problem}", highlight=False, markup=False, soft_wrap=True)


def _head(found: dict[str, Any]) -> str:
    machine, sync, pace = found["machine"], found["sync"], found["yardstick_ms"]
    return (
        f"{found['started_at']}, Python {found['python']}, {machine['cores']} cores of {machine['processor']}, "
        f"load average {machine['load_average']:.1f}\n"
        f"fdatasync of 8 KB on {machine['file_system']}: p50 {sync['p50_ms']:.2f} ms, p99 {sync['p99_ms']:.2f} ms; "
        f"a fixed Python loop took {pace['low']:.0f} to {pace['high']:.0f} ms"
    )


def _verdict(checks: dict[str, Any]) -> str:
    counts = ", ".join(f"{checks[what]:,} {what}" for what in ("keys", "effects", "replays", "conflicts"))
    return f"{counts}: {'every one as it should be' if not checks['problems'] else 'NOT as it should be'}"


def _rich(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column.title, justify="right" if column.form else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _plain(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    lines = [[column.title for column in columns], *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    written = [
        "  ".join(
            cell.rjust(width) if column.form else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in lines
    ]
    return "\n".join([title, *written])
