"""Real runs: processes, sockets, signals. Small, so that all of them together take seconds."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_DRIVER = """
import json, sys
from retrysafe.demo.run import run_demo
from retrysafe.demo.settings import DemoSettings
sys.exit(run_demo(DemoSettings(**json.loads(sys.argv[1]))))
"""
# No call to the bank is over within 0.1 s, so each kill finds orders under way in every lane.
_SMALL = {
    "only": "lanes",
    "orders": 12,
    "parallel": 4,
    "kills": 2,
    "kill_after_seconds": 0.1,
    "bank_seconds": 0.3,
    "seed": 7,
    "lite": True,
}


def _command(settings: dict[str, Any]) -> list[str]:
    return [sys.executable, "-c", _DRIVER, json.dumps(settings)]


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(folder)}


def _run(folder: Path, **settings: Any) -> tuple[int, str]:
    command = _command(_SMALL | settings)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=_environment(folder))
    assert done.stderr == ""
    assert list(folder.iterdir()) == [], "the demo removes its files"
    return done.returncode, done.stdout


def _figures(page: str) -> dict[str, list[str]]:
    """Read the table back: label to the cells of A, B and C."""
    found = re.findall(r"^(\S.*?) +([\d.,]+|–)[! ] +([\d.,]+|–)[! ] +([\d.,]+|–)!?$", page, re.MULTILINE)
    return {label: [a, b, c] for label, a, b, c in found}


def test_every_order_is_charged_exactly_once_whatever_is_killed_and_dropped(
    tmp_path: Path, figure: Callable[[str], None]
) -> None:
    code, page = _run(tmp_path)
    assert code == 0, page
    figures = _figures(page)
    assert figures["orders"] == ["12"] * 3
    assert figures["charges at the bank"][2] == "12"
    assert figures["orders charged twice or more"][2] == "0"
    assert figures["orders never charged"][2] == "0"
    assert figures["stuck"] == ["0"] * 3
    assert figures["kill -9 survived"] == ["2"] * 3
    assert int(figures["orders charged twice or more"][0]) > 0, "without protection a kill shows"
    assert int(figures["repeats the bank recognised"][2]) > 0
    assert "What a kill did to order-" in page
    assert "--seed 7" in page
    figure(f"demo, 12 orders:   charges A/B/C {'/'.join(figures['charges at the bank'])}")


def test_at_a_keyless_bank_nothing_is_charged_twice_and_the_unknown_is_parked(tmp_path: Path) -> None:
    code, page = _run(tmp_path, keyless_bank=True)
    assert code == 0, page
    figures = _figures(page)
    assert figures["orders charged twice or more"][2] == "0"
    assert int(figures["parked for a person"][2]) > 0
    assert figures["repeats the bank recognised"] == ["0"] * 3
    assert "409 outcome-unknown" in page


def test_a_lane_that_differs_from_its_orders_is_an_exit_code_of_one(tmp_path: Path) -> None:
    """The planted failure: mode ``again`` is declared although the bank charges again."""
    code, page = _run(tmp_path, keyless_bank=True, mode="again")
    assert code == 1, page
    assert "Lane C differs from its orders" in page
    assert int(_figures(page)["orders charged twice or more"][2]) > 0


@contextmanager
def _under_way(folder: Path) -> Generator[tuple["subprocess.Popen[str]", list[int]]]:
    """Start a long demo and wait until every lane's server runs; gives the pids of its children."""
    command = _command(_SMALL | {"orders": 5000, "kills": 0})
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment(folder))
    try:
        _eventually(lambda: any(folder.glob("*/C/journal.jsonl")))
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) == 4, "the bank and three shops"
        yield process, [int(child) for child in children]
    finally:
        process.kill()
        process.communicate()


def _eventually(holds: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < give_up_at, "it never happened"
        time.sleep(0.02)


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path, how: signal.Signals) -> None:
    with _under_way(tmp_path) as (process, children):
        process.send_signal(how)
        page, _ = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "Interrupted" in page
        assert all(_is_gone(child) for child in children)
        assert list(tmp_path.iterdir()) == []


def test_a_demo_that_is_killed_itself_takes_its_servers_along(tmp_path: Path) -> None:
    with _under_way(tmp_path) as (process, children):
        process.kill()
        process.wait()
        _eventually(lambda: all(_is_gone(child) for child in children))


def test_options_that_cannot_work_are_a_usage_error() -> None:
    command = [sys.executable, "-m", "retrysafe.demo", "--orders", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "orders is 0" in done.stderr
