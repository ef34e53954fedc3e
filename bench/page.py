"""What the page says about the last published run, made from its JSON: ``python -m tests.docs.generated`` writes it.

A test compares the two, so that no figure on the page can be older or younger than the file beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import product
from typing import Any

from bench import results
from bench.children import ROOT
from bench.tables import NOTHING, number, short, table

FOLDER = ROOT / "docs" / "benchmarks"

Row = Mapping[str, Any]

AIMS: dict[str, tuple[float | None, float | None, float | None]] = {
    "memory": (0.75, 0.50, 3.0),
    "sqlite": (0.60, 0.24, 2.5),
    "redis": (0.70, 0.40, 2.5),
    "postgresql": (0.50, 0.24, 2.5),
    "mariadb": (0.42, None, None),
    "nats": (0.40, None, None),
}
"""Ratios that each store is to reach: fresh on FastAPI, fresh on bare ASGI, replay on FastAPI."""

_MOST_WRONG = 0.5
_GROWN = 100_000


class Found:
    """What was found, by section and by what tells a row from the others."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """Read a document as ``results.py`` saves it."""
        self._document = document

    def has(self, section: str) -> bool:
        return section in self._document["sections"]

    def run(self, section: str) -> Row:
        run: Row = self._document["runs"][self._document["sections"][section]["run"]]
        return run

    def rows(self, section: str, **fields: object) -> list[Row]:
        """Return the rows of a section that have these fields."""
        found: list[Row] = self._document["sections"].get(section, {"rows": []})["rows"]
        return [row for row in found if all(row.get(name) == value for name, value in fields.items())]

    def values(self, section: str, name: str) -> list[Any]:
        """Return what a field says, each once, in the order of the rows."""
        return list(dict.fromkeys(row[name] for row in self.rows(section)))

    @property
    def runs(self) -> dict[str, list[str]]:
        """Which sections each run measured."""
        of: dict[str, list[str]] = {}
        for name, section in self._document["sections"].items():
            of.setdefault(section["run"], []).append(name)
        return of


def published() -> Found:
    """Read what was published last; nothing, before the first time."""
    return Found(results.load(FOLDER / "results.json"))


def blocks() -> dict[str, Callable[[], str]]:
    """Return the blocks of the page, by name."""
    return {f"bench {name}": partial(_block, name) for name in BLOCKS}


def block(name: str, found: Found) -> str:
    """Write one block."""
    section, picture, write = BLOCKS[name]
    if section and not found.has(section):
        return f"Not measured yet: `make {'bench-growth' if section == 'growth' else 'bench'}`."
    image = f"\n\n![{picture}](../benchmarks/{section}.svg)" if picture else ""
    return write(found) + image


def _block(name: str) -> str:
    return block(name, published())


def _about(found: Found) -> str:
    """Write where and when each run was made."""
    if not found.runs:
        return "Nothing is published yet."
    return "\n".join(_about_run(found.run(sections[0]), sections) for sections in found.runs.values())


def _about_run(run: Row, sections: list[str]) -> str:
    machine, sync, pace = run["machine"], run["sync"], run["yardstick_ms"]
    python = f"Python {run['python']}"
    told = [
        f"- **{', '.join(sections)}**: {run['started_at'][:10]}, {machine['cores']} cores of {machine['processor']},",
        f"load average {machine['load_average']:.1f};",
        f"{', '.join(dict.fromkeys((python, *run['servers'].values())))}.",
        f"`fdatasync` of 8 KB: {sync['p50_ms']:.2f} ms (p99 {sync['p99_ms']:.1f} ms).",
        f"A fixed loop took {pace['low']:.0f} to {pace['high']:.0f} ms.",
    ]
    if run["quick"]:
        told.append("A quick look, not a measurement.")
    if run["skipped"]:
        told.append(f"Not there: {'; '.join(run['skipped'])}.")
    return " ".join(told)


def _spread(rows: list[Row], aim: float | None = None) -> str:
    """Write a ratio with its lowest and highest round, and what it is to reach."""
    if not rows:
        return NOTHING
    row = rows[0]
    beside = "" if aim is None else f", aim {aim:g}"
    return f"**{row['ratio']:.2f}** ({row['ratio_low']:.2f}–{row['ratio_high']:.2f}{beside})"


def _ratios(found: Found) -> str:
    """Write the ratios that are promised, beside the best peer's on the same kind of store."""
    rows = []
    for store in _guards(found):
        base = store.partition(",")[0]
        fresh, bare, replay = AIMS.get(base, (None, None, None))
        peers = (_best_peer(found, base, kind) for kind in ("fresh", "replay"))
        rows.append(
            [
                store,
                _spread(_http(found, "fastapi", store, "fresh"), fresh),
                _spread(_http(found, "bare", store, "fresh"), bare),
                _spread(_http(found, "fastapi", store, "replay"), replay),
                " / ".join(peers),
            ]
        )
    return table(("", "fresh, FastAPI", "fresh, bare ASGI", "replay, FastAPI", "best peer, fresh / replay"), rows)


def _best_peer(found: Found, store: str, kind: str) -> str:
    """Return the highest ratio of those that answered rightly."""
    ratios = [
        row["ratio"]
        for row in found.rows("peers", store=store, kind=kind)
        if row["package"] != "retrysafe" and row["skipped"] is None and not is_wrong(row)
    ]
    return f"{max(ratios):.2f}" if ratios else NOTHING


def is_wrong(row: Row) -> bool:
    """Tell whether most answers of a peer were not what they had to be."""
    return bool(max(row["faults"].values(), default=0) > _MOST_WRONG * max(row["answers"], 1))


def _http(found: Found, app: str, guard: str, kind: str, connections: int = 64) -> list[Row]:
    return found.rows("http", app=app, guard=guard, kind=kind, connections=connections)


def _guards(found: Found) -> list[str]:
    return [guard for guard in found.values("http", "guard") if guard != "none"]


def _http_table(found: Found) -> str:
    """Write every application on every store."""
    kinds = ("fresh", "replay", "conflict")
    rows = []
    for app, guard in product(found.values("http", "app"), found.values("http", "guard")):
        seen = [_http(found, app, guard, kind) for kind in kinds]
        [fresh], [one] = seen[0], _http(found, app, guard, "fresh", 1)
        rows.append(
            [
                f"{app}, {guard}",
                short(fresh["requests_per_second"]),
                *(f"{of[0]['ratio']:.2f}" if of else NOTHING for of in seen),
                f"{fresh['p50_ms']:.1f} / {fresh['p99_ms']:.1f}",
                f"{one['p50_ms']:.2f} / {one['p99_ms']:.2f}",
                *(short(of[0]["cpu_us"]) if of else NOTHING for of in seen[:2]),
            ]
        )
    head = ("64 connections", "fresh/s", *kinds, "p50 / p99 ms", "alone, ms", "CPU µs, fresh", "CPU µs, replay")
    return table(head, rows)


def _alone(found: Found) -> str:
    rows = [
        [row["store"], *(number(row[name]) for name in ("added_us", "statements_us", "beyond_us"))]
        for row in found.rows("alone")
    ]
    return table(("one connection, bare ASGI, µs", "a guard adds", "its statements, bare", "beyond these"), rows)


def _peers(found: Found) -> str:
    """Write every package on every store; a ratio of wrong answers says nothing."""
    return table(
        ("FastAPI, 64 connections", "fresh", "replay", "p99 ms, fresh", "what it did wrong"), _peer_rows(found)
    )


def _peer_rows(found: Found) -> Iterator[list[str]]:
    pairs = dict.fromkeys((row["package"], row["store"]) for row in found.rows("peers") if row["package"] != "none")
    for package, store in pairs:
        rows = found.rows("peers", package=package, store=store)
        name = f"{package}, {store}"
        if rows[0]["skipped"] is not None:
            yield [name, NOTHING, NOTHING, NOTHING, f"not measured: {rows[0]['skipped']}"]
            continue
        ratios = [NOTHING if is_wrong(row) else f"{row['ratio']:.2f}" for row in rows]
        yield [name, *ratios, short(rows[0]["p99_ms"]), "; ".join(_wrong(rows)) or "nothing"]


def _wrong(rows: Iterable[Row]) -> Iterator[str]:
    for row in rows:
        for why, times in row["faults"].items():
            yield f"{row['kind']}: {why}, {times:,} of {row['answers']:,}"


def _stores(found: Found) -> str:
    counts = found.values("stores", "tasks")
    rows = []
    for store in found.values("stores", "store"):
        seen = found.rows("stores", store=store)
        busy = next((row for row in seen if row["tasks"] == 64), seen[-1])
        rates = [short(row["pairs_per_second"]) for row in seen]
        waits = [f"{row['p50_ms']:.2f} / {row['p99_ms']:.2f}" for row in (seen[0], busy)]
        rows.append([store, *rates, *waits, short(busy["cpu_us"])])
    tasks = [f"{count} task{'s' if count > 1 else ''}" for count in counts]
    return table(("pairs a second", *tasks, "p50 / p99 ms, alone", "with 64 tasks", "CPU µs"), rows)


def _memory(found: Found) -> str:
    rows = []
    for store in found.values("memory", "store"):
        seen = {row["state"]: row for row in found.rows("memory", store=store)}
        states = [seen[state] for state in ("running", "done", "expired")]
        rows.append([store, *(_size(row) for row in states), number(states[-1]["purged_per_second"])])
    return table(("bytes", "open", "done", "tombstone", "purged a second"), rows)


def _size(row: Row) -> str:
    """Write what a checkpoint takes, what when its table is rewritten, and of that what it keeps for others."""
    anew = "" if row["rewritten_bytes"] is None else f" / {row['rewritten_bytes']:,.0f}"
    kept = f" ({row['kept_bytes']:,})" if row["kept_bytes"] else ""
    return f"{row['bytes']:,.0f}{anew}{kept}"


def _growth(found: Found) -> str:
    first = {row["store"]: row for row in reversed(found.rows("growth")) if row["rows"] >= _GROWN}
    rows = [
        [
            f"{row['store']}, {row['rows']:,}",
            number(row["megabytes"]),
            f"{short(row['pairs_per_second'])}{_kept(row, first.get(row['store']))}",
            f"{row['claim_p99_ms']:.1f}",
            short(row["purging_pairs_per_second"]),
            f"{row['purging_claim_p99_ms']:.1f} ({row['purging_claim_p99_ratio']:.2f} ×)",
            number(row["purged_in_a_slice"]),
        ]
        for row in found.rows("growth")
    ]
    head = (
        "rows",
        "MB",
        "pairs/s (of that at 100,000)",
        "claim p99 ms",
        "pairs/s, purging",
        "claim p99 ms, purging",
        "purged meanwhile",
    )
    return table(head, rows)


def _kept(row: Row, first: Row | None) -> str:
    """Write what is left of the rate that the store had at a hundred thousand rows."""
    if first is None or row["rows"] <= first["rows"]:
        return ""
    return f" ({row['pairs_per_second'] / first['pairs_per_second']:.0%})"


def _recovery(found: Found) -> str:
    rows = [
        [
            f"{row['store']}, {row['workers']} workers",
            *(number(row[name]) for name in ("operations", "per_second", "cpu_us", "twice", "left")),
        ]
        for row in found.rows("recovery")
    ]
    return table(("", "abandoned", "recovered a second", "CPU µs each", "effects twice", "left open"), rows)


def _adapter(found: Found) -> str:
    parts = ("whole_cpu_us", "app_cpu_us", "store_cpu_us", "cpu_us")
    rows = [[row["kind"], *(f"{row[part]:.1f}" for part in parts)] for row in found.rows("adapter")]
    return table(("CPU µs a request", "in all", "application", "memory store", "protocol and adapter"), rows)


BLOCKS: dict[str, tuple[str, str, Callable[[Found], str]]] = {
    "about": ("", "", _about),
    "ratios": ("http", "Requests a second, guarded by unguarded, for each store.", _ratios),
    "http": ("http", "", _http_table),
    "alone": ("alone", "What a guard adds to one request, beside its statements.", _alone),
    "peers": ("peers", "Ratios of retrysafe and of other packages.", _peers),
    "stores": ("stores", "Pairs a second by the number of tasks.", _stores),
    "memory": ("memory", "", _memory),
    "growth": ("growth", "Pairs a second by the number of rows.", _growth),
    "recovery": ("recovery", "", _recovery),
    "adapter": ("adapter", "", _adapter),
}
"""Each block's section, what its picture shows if it has one, and how it is written."""
