"""The benchmark runs, says what it measured, and is a correctness run besides. No figure is judged here."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from bench.pairs import TASKS
from bench.plan import QUICK

ROOT = Path(__file__).resolve().parent.parent.parent
SECTIONS = ("adapter", "stores", "alone", "http", "memory", "recovery", "growth")
STORES = ("memory", "sqlite")


def _run(folder: Path, *arguments: str) -> tuple[str, dict[str, Any]]:
    command = [sys.executable, "-m", "bench", "--quick", "--rounds", "1", "--most", "70", *arguments]
    command += ["--directory", str(folder / "run"), "--into", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert list((folder / "run").iterdir()) == [], "files were left behind"
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return done.stdout, found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    return _run(tmp_path_factory.mktemp("bench"), "--only", *SECTIONS, "--store", *STORES, "--rows", "200")


def _rows(run: tuple[str, dict[str, Any]], section: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = run[1]["sections"][section]["rows"]
    return rows


def _about(run: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    [about] = run[1]["runs"].values()
    assert isinstance(about, dict)
    return about


def test_every_key_has_one_effect_and_no_replay_another(run: tuple[str, dict[str, Any]]) -> None:
    checks = _about(run)["checks"]
    assert checks["problems"] == []
    assert checks["effects"] == checks["keys"] > 0
    assert checks["replays"] > 0
    assert checks["conflicts"] > 0


def test_every_combination_is_measured(run: tuple[str, dict[str, Any]]) -> None:
    http = {(row["app"], row["connections"], row["guard"], row["kind"]) for row in _rows(run, "http")}
    kinds = ((64, "fresh"), (64, "replay"), (64, "conflict"), (1, "fresh"), (1, "replay"))
    guarded = {(app, number, store, kind) for app, store, (number, kind) in product(QUICK.apps, STORES, kinds)}
    assert http == guarded | {(app, number, "none", "fresh") for app, number in product(QUICK.apps, (64, 1))}
    assert {(row["store"], row["tasks"]) for row in _rows(run, "stores")} == set(product(STORES, TASKS))
    assert [row["store"] for row in _rows(run, "alone")] == list(STORES)
    states = ("running", "done", "expired")
    assert {(row["store"], row["state"]) for row in _rows(run, "memory")} == set(product(STORES, states))
    assert [row["kind"] for row in _rows(run, "adapter")] == ["fresh", "replay"]
    assert [(row["store"], row["rows"]) for row in _rows(run, "growth")] == [("sqlite", 0), ("sqlite", 200)]


def test_beside_growth_what_is_due_is_purged(run: tuple[str, dict[str, Any]]) -> None:
    """One row in five."""
    assert [row["purged_in_a_slice"] for row in _rows(run, "growth")] == [0, 40]


def test_what_was_abandoned_is_recovered_once(run: tuple[str, dict[str, Any]]) -> None:
    [recovered] = _rows(run, "recovery")
    assert (recovered["operations"], recovered["twice"], recovered["left"]) == (70, 0, 0)


def test_the_statements_of_a_pair_are_sent_bare_besides(run: tuple[str, dict[str, Any]]) -> None:
    memory, sqlite = _rows(run, "alone")
    assert memory["statements_us"] is None
    assert sqlite["statements_us"] > 0


def test_a_run_says_where_and_how_it_was_made(run: tuple[str, dict[str, Any]]) -> None:
    about = _about(run)
    assert {"cores", "processor", "file_system", "load_average"} <= about["machine"].keys()
    assert {"retrysafe", "uvicorn", "fastapi", "sqlite"} <= about["versions"].keys()
    assert about["settings"]["most"] == 70
    assert about["quick"] is True
    assert about["sync"]["p50_ms"] > 0


def test_figures_are_numbers_and_the_tables_show_them(run: tuple[str, dict[str, Any]]) -> None:
    printed = run[0]
    for row in _rows(run, "http"):
        assert row["requests_per_second"] > 0
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert 0 < row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
    for row in _rows(run, "stores"):
        assert row["pairs_per_second"] > 0
    for row in _rows(run, "memory"):
        assert row["bytes"] > row["kept_bytes"] or row["store"] == "sqlite"
    # Without a terminal the tables are plain text, for logs.
    assert "\x1b" not in printed
    assert f"{_about(run)['checks']['keys']:,} keys" in printed


def test_postgresql_is_filled_by_the_thousand_and_asked_for_its_size(tmp_path: Path) -> None:
    found = _run(tmp_path, "--only", "memory", "growth", "--store", "postgresql", "--rows", "300")
    if not _rows(found, "growth"):
        pytest.skip(f"{_about(found)['skipped']}")
    assert [row["rows"] for row in _rows(found, "growth")] == [0, 300]
    assert _rows(found, "growth")[1]["purged_in_a_slice"] == 60
    assert all(row["bytes"] > 0 for row in _rows(found, "memory"))
