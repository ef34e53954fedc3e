"""``python -m bench``: measure, print, save, draw, and write the page."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import alone, growth, machine, memory, overhead, page, pairs, peers, plots, recovery, report, results, web
from bench.children import ROOT
from bench.plan import DEFAULT, QUICK, Plan
from bench.run import Run
from bench.stores import KINDS, Kind, Stores

_SCRATCH = ROOT / ".cache" / "bench"

SECTIONS: dict[str, Callable[[Run], list[dict[str, Any]]]] = {
    "adapter": overhead.measure,
    "stores": pairs.measure,
    "alone": alone.measure,
    "http": web.measure,
    "peers": peers.measure,
    "memory": memory.measure,
    "recovery": recovery.measure,
    "growth": growth.measure,
}
_USUAL = [name for name in SECTIONS if name != "growth"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure.

    Returns:
        0, or 1 when something that was timed was not done, or done twice.
    """
    asked = _parser().parse_args(arguments)
    run, sections = _measure(_plan(asked), asked.only or _USUAL, _kinds(asked.store), asked.directory)
    run["quick"] = asked.quick
    into = asked.into or (_SCRATCH if asked.quick else page.FOLDER)
    found = results.merged(results.load(into / "results.json"), run, sections)
    results.save(found, into / "results.json")
    if into.resolve() == page.FOLDER:
        # Writes the page and draws its pictures.
        subprocess.run([sys.executable, "-m", "tests.docs.generated"], cwd=ROOT, check=True)
    else:
        plots.draw(page.Found(found), into)
    report.show(run, sections, Console())
    return 1 if run["checks"]["problems"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description="Measure what retrysafe costs here.")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: under a minute, for a look")
    parser.add_argument(
        "--only", nargs="+", choices=SECTIONS, metavar="SECTION", help=f"of {', '.join(SECTIONS)}; all but growth"
    )
    parser.add_argument("--store", nargs="+", metavar="STORE", help="only stores whose name begins so")
    parser.add_argument(
        "--into", type=Path, metavar="FOLDER", help="for JSON and pictures: docs/benchmarks, where the page has them"
    )
    parser.add_argument(
        "--directory", type=Path, default=_SCRATCH, metavar="PATH", help="where SQLite files are made and removed again"
    )
    parser.add_argument("--rounds", type=_positive, metavar="N", help="rounds of every measurement")
    parser.add_argument("--most", type=_positive, metavar="N", help="largest number of requests or pairs in a slice")
    parser.add_argument("--rows", type=_positive, metavar="N", help="largest table of the growth measurement")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        message = "choose one or more"
        raise argparse.ArgumentTypeError(message)
    return number


def _plan(asked: argparse.Namespace) -> Plan:
    plan = QUICK if asked.quick else DEFAULT
    if asked.most is not None:
        plan = replace(plan, most=asked.most, filled=min(plan.filled, asked.most))
    if asked.rows is not None:
        plan = replace(plan, rows=asked.rows)
    if asked.rounds is not None:
        number: int = asked.rounds
        plan = replace(plan, web_rounds=number, pair_rounds=number, overhead_rounds=number, growth_rounds=number)
    return plan


def _kinds(begins: Sequence[str] | None) -> list[Kind]:
    return [kind for kind in KINDS if begins is None or kind.name.startswith(tuple(begins))]


def _measure(
    plan: Plan, names: Sequence[str], kinds: list[Kind], directory: Path
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    started_at = time.monotonic()
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run-", dir=directory) as made:
        place = Path(made).resolve()
        about: dict[str, Any] = {**machine.describe(place), "settings": asdict(plan)}
        about["sync"] = asdict(machine.sync_latency(place))
        pace = [machine.yardstick() for _ in range(5)]
        sections: dict[str, list[dict[str, Any]]] = {}
        with Stores(place, kinds) as stores:
            run = Run(plan=plan, directory=place, stores=stores, tell=_tell)
            for name in names:
                sections[name] = SECTIONS[name](run)
                pace.append(machine.yardstick())
            about["servers"] = stores.versions()
    about["yardstick_ms"] = {"low": min(pace), "high": max(pace)}
    about["skipped"] = run.stores.skipped
    about["checks"] = asdict(run.checks)
    about["seconds"] = time.monotonic() - started_at
    return about, sections


def _tell(line: str) -> None:
    """Say what goes on, where somebody watches."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
