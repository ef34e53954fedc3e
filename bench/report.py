"""What was measured, as tables for a person and as JSON for a program."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
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
        value = row[self.field]
        return _DASH if value is None else format(value, self.form) if self.form else str(value)


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
_STORES = (
    Column("store", "store"),
    Column("tasks", "tasks", "d"),
    Column("pairs/s", "pairs_per_second", ",.0f"),
    Column("× per write", "ratio", ".1f"),
    Column("p50 ms", "p50_ms", ".2f"),
    Column("p99 ms", "p99_ms", ".2f"),
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
_RECOVERY = (
    Column("store", "store"),
    Column("workers", "workers", "d"),
    Column("abandoned", "operations", ",d"),
    Column("recovered/s", "per_second", ",.0f"),
    Column("CPU µs each", "cpu_us", ",.0f"),
    Column("twice", "twice", "d"),
    Column("left", "left", "d"),
)
_TABLES = (
    ("http", "HTTP: one uvicorn worker; ratio to the unguarded application of the same round", _HTTP),
    ("stores", "Stores: pairs of one claim and one record", _STORES),
    ("adapter", "Protocol and ASGI adapter alone: CPU µs per request, memory store", _ADAPTER),
    ("recovery", "Recovery: abandoned operations of one step, by workers that are started for them", _RECOVERY),
)


def show(found: dict[str, Any], console: Console) -> None:
    """Print everything; plain text where no terminal is."""
    console.print(_head(found), highlight=False, soft_wrap=True)
    for section, title, columns in _TABLES:
        rows = [[column.cell(row) for column in columns] for row in found[section]]
        console.print()
        if console.is_terminal:
            console.print(_rich(title, columns, rows))
        else:
            console.print(_plain(title, columns, rows), highlight=False, soft_wrap=True)
    console.print(f"\n{_verdict(found['checks'])}", highlight=False, soft_wrap=True)
    for problem in found["checks"]["problems"]:
        console.print(f"  {problem}", highlight=False, markup=False, soft_wrap=True)


def save(found: dict[str, Any], path: Path) -> None:
    """Write JSON, making the folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")


def _head(found: dict[str, Any]) -> str:
    machine, sync, pace = found["machine"], found["sync"], found["yardstick_ms"]
    return (
        f"{found['started_at']}, Python {found['python']}, {machine['cores']} cores of {machine['processor']}, "
        f"load average {machine['load_average']:.1f}\n"
        f"fdatasync of 8 KB on {machine['file_system']}: p50 {sync['p50_ms']:.2f} ms, p99 {sync['p99_ms']:.2f} ms; "
        f"a fixed Python loop took {pace['low']:.0f} to {pace['high']:.0f} ms"
    )


def _verdict(checks: dict[str, Any]) -> str:
    counts = f"{checks['keys']:,} keys, {checks['effects']:,} effects, {checks['replays']:,} replays"
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
