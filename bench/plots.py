"""Pictures of what was found, as SVG that is the same for the same figures, and readable on light and on dark pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.page import Found, is_wrong

# Drawn in colours that nothing else has, which the file then takes from the reader's scheme.
_INK, _CARD, _LINE = "#010203", "#fdfcfb", "#7a7b7c"
_SCHEMES = """<style>
svg { --ink: #22303d; --card: #fbfaf7; --line: #ddd8cc }
@media (prefers-color-scheme: dark) { svg { --ink: #dfe6ec; --card: #171c22; --line: #313a44 } }
</style>
"""
_COLOURS = ("#3d7ebf", "#c2691c", "#3a9160", "#9a67c7", "#c74a52", "#228f95", "#8a7a2e", "#7d7d86")
_STYLE: Any = {
    "svg.hashsalt": "retrysafe",
    "svg.fonttype": "none",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _LINE,
    "axes.facecolor": _CARD,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.facecolor": _CARD,
    "grid.color": _LINE,
    "legend.frameon": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
}
_WIDTH = 8.0


def draw(found: Found, folder: Path) -> None:
    """Write a picture of every section that has one and was measured."""
    for section, text in pictures(found).items():
        (folder / f"{section}.svg").write_text(text)


def pictures(found: Found) -> dict[str, str]:
    """Return the pictures by section."""
    return {section: _svg(picture(found)) for section, picture in _PICTURES.items() if found.has(section)}


def _svg(paint: Callable[[], Figure]) -> str:
    out = StringIO()
    with rc_context(_STYLE):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        paint().savefig(out, format="svg", metadata=nothing)
    text = out.getvalue().replace("<defs>", f"{_SCHEMES}<defs>", 1)
    for colour, name in ((_INK, "ink"), (_CARD, "card"), (_LINE, "line")):
        text = text.replace(colour, f"var(--{name})")
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _bars(axes: Axes, names: Sequence[str], series: dict[str, list[tuple[float, float, float] | None]]) -> None:
    """Draw one group of bars a name, top to bottom: value, lowest and highest."""
    height = 0.8 / len(series)
    for number, (label, values) in enumerate(series.items()):
        there = [(place, value) for place, value in enumerate(values) if value is not None]
        places = [place + (number - (len(series) - 1) / 2) * height for place, _ in there]
        middles = [value for _, (value, _, _) in there]
        spread = [
            [max(0.0, value - low) for _, (value, low, _) in there],
            [max(0.0, high - v) for _, (v, _, high) in there],
        ]
        axes.barh(places, middles, height * 0.9, label=label, color=_COLOURS[number])
        axes.errorbar(middles, places, xerr=spread, fmt="none", ecolor=_INK, elinewidth=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="x", linewidth=0.6)
    axes.axvline(1.0, color=_INK, linewidth=0.8)


def _ratio(rows: list[Any]) -> tuple[float, float, float] | None:
    return (rows[0]["ratio"], rows[0]["ratio_low"], rows[0]["ratio_high"]) if rows else None


def _http(found: Found) -> Callable[[], Figure]:
    apps = [app for app in ("fastapi", "bare") if app in found.values("http", "app")]
    guards = [guard for guard in found.values("http", "guard") if guard != "none"]

    def paint() -> Figure:
        figure = Figure((_WIDTH, 1.2 + 0.55 * len(guards)), layout="constrained")
        for axes, app in zip(figure.subplots(1, len(apps), sharey=True, squeeze=False)[0], apps, strict=True):
            kinds = ("fresh", "replay", "conflict")
            fields = {"app": app, "connections": 64}
            _bars(
                axes,
                guards,
                {
                    kind: [_ratio(found.rows("http", **fields, guard=guard, kind=kind)) for guard in guards]
                    for kind in kinds
                },
            )
            axes.set_title({"fastapi": "FastAPI", "bare": "bare ASGI"}[app])
            axes.set_xlabel("requests a second, guarded by unguarded")
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
        return figure

    return paint


def _peers(found: Found) -> Callable[[], Figure]:
    rows = [row for row in found.rows("peers") if row["package"] != "none" and row["skipped"] is None]
    names = list(dict.fromkeys(f"{row['package']}, {row['store']}" for row in rows))

    def of(name: str, kind: str) -> tuple[float, float, float] | None:
        package, _, store = name.partition(", ")
        seen = found.rows("peers", package=package, store=store, kind=kind)
        return None if not seen or is_wrong(seen[0]) else _ratio(seen)

    def paint() -> Figure:
        figure = Figure((_WIDTH, 1.0 + 0.36 * len(names)), layout="constrained")
        axes = figure.subplots()
        _bars(axes, names, {kind: [of(name, kind) for name in names] for kind in ("fresh", "replay")})
        axes.set_xlabel("requests a second on FastAPI, guarded by unguarded")
        figure.legend(loc="outside upper right", ncols=2)
        return figure

    return paint


def _alone(found: Found) -> Callable[[], Figure]:
    rows = found.rows("alone")

    def paint() -> Figure:
        figure = Figure((_WIDTH, 1.0 + 0.4 * len(rows)), layout="constrained")
        axes = figure.subplots()
        names = [row["store"] for row in rows]
        least = [min(row["statements_us"] or 0.0, row["added_us"]) for row in rows]
        axes.barh(names, least, 0.6, label="its statements, bare", color=_COLOURS[0])
        beyond = [row["added_us"] - under for row, under in zip(rows, least, strict=True)]
        axes.barh(names, beyond, 0.6, left=least, label="beyond these", color=_COLOURS[1])
        axes.invert_yaxis()
        axes.grid(axis="x", linewidth=0.6)
        axes.set_xlabel("µs that a guard adds to a request, one connection")
        figure.legend(loc="outside upper right", ncols=2)
        return figure

    return paint


def _stores(found: Found) -> Callable[[], Figure]:
    return _lines(found, "stores", "tasks", "tasks at once", {"pairs_per_second": ("", "-")})


def _growth(found: Found) -> Callable[[], Figure]:
    ways = {"pairs_per_second": ("", "-"), "purging_pairs_per_second": (", purging", "--")}
    return _lines(found, "growth", "rows", "checkpoints in the table", ways)


def _lines(
    found: Found, section: str, along: str, label: str, ways: dict[str, tuple[str, str]]
) -> Callable[[], Figure]:
    """Draw a line for each store and each field, over the counts that were measured, evenly spaced."""

    def paint() -> Figure:
        figure = Figure((_WIDTH, 4.2), layout="constrained")
        axes = figure.subplots()
        counts = found.values(section, along)
        for number, store in enumerate(found.values(section, "store")):
            rows = found.rows(section, store=store)
            places = [counts.index(row[along]) for row in rows]
            colour = _COLOURS[number % len(_COLOURS)]
            for name, (what, style) in ways.items():
                axes.plot(places, [row[name] for row in rows], style, marker="o", label=store + what, color=colour)
        axes.set_xticks(range(len(counts)), [f"{count:,}" for count in counts])
        axes.set_yscale("log")
        axes.set_xlabel(label)
        axes.set_ylabel("pairs a second")
        axes.grid(linewidth=0.6)
        figure.legend(loc="outside right upper")
        return figure

    return paint


_PICTURES: dict[str, Callable[[Found], Callable[[], Figure]]] = {
    "http": _http,
    "alone": _alone,
    "peers": _peers,
    "stores": _stores,
    "growth": _growth,
}
