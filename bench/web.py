"""Whole servers over loopback: what a guard costs an application, as ratios within one round.

Every variant is a server process of its own with one worker; all variants of one application are up together, and one
load generator, a process too, visits one after another.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from bench.apps import KINDS
from bench.children import Child
from bench.contest import UNGUARDED, Contest
from bench.run import Run
from bench.visitor import Server, Visitor

CONNECTIONS = 64
_SHARES = {"bare": 2, "fastapi": 2}
"""Those that aims are set for get twice the time of the others."""


def measure(run: Run) -> list[dict[str, Any]]:
    """Measure one application after the other, each for as many rounds as its share of the time allows."""
    rows: list[dict[str, Any]] = []
    with Child("bench.load") as load:
        load.wait_until_ready()
        visitor = Visitor(load, run.plan, run.checks)
        whole = sum(_SHARES.get(app, 1) for app in run.plan.apps)
        for app in run.plan.apps:
            seconds = run.plan.http_limit_seconds * _SHARES.get(app, 1) / whole
            rows += _application(run, app, visitor, time.monotonic() + seconds)
    return rows


def _application(run: Run, app: str, visitor: Visitor, deadline: float) -> list[dict[str, Any]]:
    """Run rounds until there were enough, or until the next one would probably end after ``deadline``."""
    stores = [kind for kind in run.stores.wanted if kind.on_web]
    run.tell(f"http: starting {app}")
    with ExitStack() as children:

        def start(name: str, url: str) -> Server:
            return Server(app, name, children.enter_context(Child(KINDS[app].server, app, url)))

        unguarded = start(UNGUARDED, "")
        guarded = [start(kind.name, run.stores.place(kind)) for kind in stores]
        for server in (unguarded, *guarded):
            server.child.wait_until_ready()
        contest = Contest(app, unguarded, guarded, visitor)
        contest.warm_up(CONNECTIONS)
        longest = 0.0
        for number in range(run.plan.web_rounds):
            started_at = time.monotonic()
            if number and started_at + longest > deadline:
                run.tell(f"http: {app} stopped after {number} of {run.plan.web_rounds} rounds, its time is over")
                break
            run.tell(f"http: {app}, round {number + 1} of {run.plan.web_rounds}")
            contest.round(number, CONNECTIONS, ("replay", "conflict"))
            contest.round(number, 1, ("replay",))
            longest = max(longest, time.monotonic() - started_at)
    return [row.summary() for row in contest.rows]
