"""The page and its pictures are what the JSON beside them says. That the text agrees, tests/docs sees."""

from typing import Any
from xml.etree import ElementTree as ET

import pytest

from bench import page, plots, results
from bench.page import Found

_RATIO = {
    "ratio": 0.7,
    "ratio_low": 0.6,
    "ratio_high": 0.8,
    "p50_ms": 1.0,
    "p99_ms": 2.0,
    "cpu_us": 50.0,
    "answers": 10,
}
_PEER = {"package": "other", "store": "memory", "skipped": None}
_PAIRS = {"pairs_per_second": 900.0, "p50_ms": 1.0, "p99_ms": 2.0, "claim_p99_ms": 1.5, "cpu_us": 9.0}
_PURGING = {"purging_pairs_per_second": 800.0, "purging_claim_p99_ms": 1.6, "purging_claim_p99_ratio": 1.1}
_PURGED = {"purged_per_second": 7.0}
ROWS: dict[str, list[dict[str, Any]]] = {
    "http": [
        {"app": app, "connections": connections, "guard": guard, "kind": kind, "requests_per_second": 5000.0, **_RATIO}
        for app in ("bare", "fastapi")
        for connections in (64, 1)
        for guard, kind in (("none", "fresh"), ("memory", "fresh"), ("memory", "replay"), ("memory", "conflict"))
    ],
    "alone": [{"store": "sqlite", "added_us": 90.0, "statements_us": 50.0, "beyond_us": 40.0}],
    "peers": [
        {**_PEER, "kind": "fresh", "faults": {}, **_RATIO, "ratio": 0.3},
        {**_PEER, "kind": "replay", "faults": {"status 422": 10}, **_RATIO, "ratio": 0.9},
        {**_PEER, "package": "absent", "kind": "fresh", "skipped": "cannot be installed"},
    ],
    "stores": [{"store": "sqlite", "tasks": tasks, **_PAIRS} for tasks in (1, 64)],
    "memory": [
        {"store": "redis", "state": state, "bytes": 389.0, "kept_bytes": kept, "rewritten_bytes": rewritten, **_PURGED}
        for state, kept, rewritten in (("running", 200, None), ("done", 0, 300.0), ("expired", 0, None))
    ],
    "growth": [
        {"store": "sqlite", "rows": rows, "megabytes": 1.0, "purged_in_a_slice": 7, **_PAIRS, **_PURGING}
        for rows in (0, 100_000, 1_000_000)
    ],
    "recovery": [
        {"store": "sqlite", "workers": 4, "operations": 9, "per_second": 5.0, "cpu_us": 1.0, "twice": 0, "left": 0}
    ],
    "adapter": [{"kind": "fresh", "whole_cpu_us": 40.0, "app_cpu_us": 10.0, "store_cpu_us": 8.0, "cpu_us": 22.0}],
}
RUN = {
    "started_at": "2026-01-02T03:04:05+00:00",
    "python": "3.11.7",
    "machine": {"cores": 2, "processor": "a processor", "load_average": 0.1},
    "sync": {"p50_ms": 0.2, "p99_ms": 3.0},
    "yardstick_ms": {"low": 6.0, "high": 7.0},
    "servers": {"redis": "Valkey 9"},
    "skipped": [],
    "quick": False,
}
FOUND = Found(results.merged({"runs": {}, "sections": {}}, RUN, ROWS))


def test_the_pictures_are_those_of_the_published_figures() -> None:
    drawn = plots.pictures(page.published())
    assert {path.stem: path.read_text() for path in page.FOLDER.glob("*.svg")} == drawn, (
        "python -m tests.docs.generated"
    )


def test_a_picture_is_the_same_each_time_and_has_colours_for_both_schemes() -> None:
    drawn = plots.pictures(FOUND)
    assert drawn == plots.pictures(FOUND)
    assert drawn.keys() == {"http", "alone", "peers", "stores", "growth"}
    for text in drawn.values():
        ET.fromstring(text)  # noqa: S314 - our own
        assert "prefers-color-scheme: dark" in text
        assert "var(--ink)" in text
        assert "<dc:date>" not in text


def test_the_page_shows_every_section() -> None:
    shown = {name: page.block(name, FOUND) for name in page.BLOCKS}
    assert "2026-01-02, 2 cores of a processor" in shown["about"]
    assert "**0.70** (0.60–0.80, aim 0.75)" in shown["ratios"]
    assert "| sqlite | 90 | 50 | 40 |" in shown["alone"]
    assert "| redis | 389 (200) | 389 / 300 | 389 | 7 |" in shown["memory"]
    assert "1.6 (1.10 ×)" in shown["growth"]
    assert "| sqlite, 100,000 | 1 | 900 |" in shown["growth"]
    assert "| sqlite, 1,000,000 | 1 | 900 (100%) |" in shown["growth"]
    assert all("Not measured" not in text for text in shown.values())


def test_what_a_peer_did_wrong_is_said_and_its_ratio_is_not() -> None:
    text = page.block("peers", FOUND)
    assert "| other, memory | 0.30 | – | 2.00 | replay: status 422, 10 of 10 |" in text
    assert "| absent, memory | – | – | – | not measured: cannot be installed |" in text
    assert "0.30 / –" in page.block("ratios", FOUND)


@pytest.mark.parametrize("name", sorted(page.BLOCKS))
def test_what_was_not_measured_has_no_figures(name: str) -> None:
    text = page.block(name, Found(results.merged({"runs": {}, "sections": {}}, RUN, {})))
    assert "Not measured yet: `make bench" in text or text == "Nothing is published yet."


def test_a_run_of_one_section_leaves_the_others() -> None:
    later = RUN | {"started_at": "2026-02-02T00:00:00+00:00"}
    first = results.merged({"runs": {}, "sections": {}}, RUN, {"http": [], "growth": []})
    second = results.merged(first, later, {"http": [{"app": "bare"}]})
    assert second["sections"]["growth"]["run"] == RUN["started_at"]
    assert second["sections"]["http"] == {"run": later["started_at"], "rows": [{"app": "bare"}]}
    third = results.merged(second, later, {"growth": []})
    assert list(third["runs"]) == [later["started_at"]]
