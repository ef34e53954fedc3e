"""``python -m bench``: measure, print, save."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import machine, overhead, pairs, recovery, report, web
from bench.plan import DEFAULT, QUICK, Plan

_RESULTS = Path(__file__).resolve().parent / "results"
_SCHEMA_VERSION = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure.

    Returns:
        0, or 1 when something that was timed was not done, or done twice.
    """
    asked = _parser().parse_args(arguments)
    plan = QUICK if asked.quick else DEFAULT
    if asked.most is not None:
        plan = replace(plan, most=asked.most)
    if asked.rounds is not None:
        plan = replace(plan, web_rounds=asked.rounds, pair_rounds=asked.rounds, overhead_rounds=asked.rounds)
    found = _measure(plan, asked.directory)
    report.save(found, asked.json)
    report.show(found, Console())
    return 1 if found["checks"]["problems"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description="Measure what retrysafe costs here.")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: under 40 s")
    parser.add_argument("--json", type=Path, default=_RESULTS / "latest.json", metavar="PATH", help="where to save")
    parser.add_argument(
        "--directory", type=Path, default=_RESULTS, metavar="PATH", help="where SQLite files are made and removed again"
    )
    parser.add_argument("--rounds", type=_positive, metavar="N", help="rounds of every measurement")
    parser.add_argument("--most", type=_positive, metavar="N", help="largest number of requests or pairs in a slice")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        message = "choose one or more"
        raise argparse.ArgumentTypeError(message)
    return number


def _measure(plan: Plan, directory: Path) -> dict[str, Any]:
    started_at = time.monotonic()
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run-", dir=directory) as made:
        place = Path(made).resolve()
        found: dict[str, Any] = {"schema_version": _SCHEMA_VERSION, **machine.describe(place)}
        found["settings"] = asdict(plan)
        found["sync"] = asdict(machine.sync_latency(place))
        pace = [machine.yardstick() for _ in range(5)]
        adapter = overhead.measure(plan, _tell)
        pace.append(machine.yardstick())
        stores = pairs.measure(plan, place, _tell)
        recovered = recovery.measure(plan, place, _tell)
        pace.append(machine.yardstick())
        rows, checks = web.measure(plan, place, started_at + plan.limit_seconds, _tell)
        pace.extend(machine.yardstick() for _ in range(5))
    found["yardstick_ms"] = {"low": min(pace), "high": max(pace)}
    found["http"] = [row.summary() for row in rows]
    found["stores"] = [row.summary() for row in stores]
    found["adapter"] = adapter.summary()
    found["recovery"] = [recovered.summary()]
    found["checks"] = asdict(checks)
    if recovered.twice or recovered.left:
        found["checks"]["problems"].append(f"recovery: {recovered.twice} twice, {recovered.left} left open")
    found["seconds"] = time.monotonic() - started_at
    return found


def _tell(line: str) -> None:
    """Say what goes on, where somebody watches."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
