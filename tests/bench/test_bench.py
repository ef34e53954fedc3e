"""The benchmark runs, says what it measured, and is a correctness run besides. No figure is judged here."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from bench.plan import APPS, CONNECTIONS, GUARDS, TASKS

ROOT = Path(__file__).resolve().parent.parent.parent


def _run(folder: Path) -> tuple[str, dict[str, Any]]:
    saved = folder / "found.json"
    command = [sys.executable, "-m", "bench", "--quick", "--rounds", "1", "--most", "70"]
    command += ["--directory", str(folder), "--json", str(saved)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert sorted(path.name for path in folder.iterdir()) == ["found.json"], "files were left behind"
    found: dict[str, Any] = json.loads(saved.read_text())
    return done.stdout, found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    return _run(tmp_path_factory.mktemp("bench"))


def test_every_key_has_one_effect_and_no_replay_another(run: tuple[str, dict[str, Any]]) -> None:
    checks = run[1]["checks"]
    assert checks["problems"] == []
    assert checks["effects"] == checks["keys"] > 0
    assert checks["replays"] > 0


def test_every_combination_is_measured(run: tuple[str, dict[str, Any]]) -> None:
    found = run[1]
    http = {(row["app"], row["connections"], row["guard"], row["kind"]) for row in found["http"]}
    guarded = set(product(APPS, CONNECTIONS, GUARDS, ("fresh", "replay")))
    assert http == guarded | set(product(APPS, CONNECTIONS, ("none",), ("fresh",)))
    stores = {(row["store"], row["tasks"]) for row in found["stores"]}
    assert stores == set(product(("memory", "sqlite, group commit", "sqlite, commit per write"), TASKS))
    assert [row["kind"] for row in found["adapter"]] == ["fresh", "replay"]


def test_a_run_says_where_and_how_it_was_made(run: tuple[str, dict[str, Any]]) -> None:
    found = run[1]
    assert found["schema_version"] == 1
    assert {"cores", "processor", "file_system", "load_average"} <= found["machine"].keys()
    assert {"retrysafe", "uvicorn", "fastapi", "sqlite"} <= found["versions"].keys()
    assert found["settings"]["most"] == 70
    assert found["sync"]["p50_ms"] > 0


def test_figures_are_numbers_and_the_tables_show_them(run: tuple[str, dict[str, Any]]) -> None:
    printed, found = run
    for row in found["http"]:
        assert row["requests_per_second"] > 0
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert 0 < row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
    for row in found["stores"]:
        assert row["pairs_per_second"] > 0
    # Without a terminal the tables are plain text, for logs.
    assert "\x1b" not in printed
    assert f"{found['checks']['keys']:,} keys" in printed
