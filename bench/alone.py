"""One connection, nothing else under way: what a guard adds to a request, beside what its statements take bare.

Nothing can be batched then, and nobody waits for anybody: what is left is round trips, commits, and our own code.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from statistics import median
from typing import Any

from bench import bare
from bench.apps import KINDS
from bench.asks import anew, make_asks
from bench.children import Child
from bench.contest import UNGUARDED, Contest
from bench.run import Run
from bench.stores import Kind, opened
from bench.visitor import Server, Visitor

_APP = "bare"
_MOST = 2_000


def measure(run: Run) -> list[dict[str, Any]]:
    """Alternate an unguarded server, one on each store, and the bare statements of each."""
    kinds = [kind for kind in run.stores.wanted if kind.on_web]
    asks = asyncio.run(make_asks(min(run.plan.most, _MOST)))
    pairs: dict[str, list[float]] = {kind.name: [] for kind in kinds}
    with ExitStack() as children:

        def start(module: str, *arguments: str) -> Child:
            return children.enter_context(Child(module, *arguments))

        def server(name: str, url: str) -> Server:
            return Server(_APP, name, start(KINDS[_APP].server, _APP, url))

        load, unguarded = start("bench.load"), server(UNGUARDED, "")
        guarded = [server(kind.name, run.stores.place(kind)) for kind in kinds]
        places = {kind.name: _made(run, kind) for kind in kinds}
        for child in (load, unguarded.child, *(each.child for each in guarded)):
            child.wait_until_ready()
        contest = Contest(_APP, unguarded, guarded, Visitor(load, run.plan, run.checks))
        contest.warm_up(1)
        for number in range(run.plan.web_rounds):
            run.tell(f"alone: round {number + 1} of {run.plan.web_rounds}")
            contest.round(number, 1, ())
            for name, url in places.items():
                taken = bare.pair_ms(name, url, anew(asks), run.plan.web_seconds)
                if taken is not None:
                    pairs[name].append(taken)
    return [_summary(row.guard, row.added, pairs[row.guard]) for row in contest.rows if row.guard != UNGUARDED]


def _made(run: Run, kind: Kind) -> str:
    """Return the URL of a store whose tables are there."""
    url = run.stores.place(kind)
    opened(url).close()
    return url


def _summary(store: str, added: list[float], pairs: list[float]) -> dict[str, Any]:
    """Return medians; each round compares its own two figures."""
    beyond = [mine - least for mine, least in zip(added, pairs, strict=False)]
    return {
        "store": store,
        "rounds": len(added),
        "added_us": 1e3 * median(added),
        "statements_us": 1e3 * median(pairs) if pairs else None,
        "beyond_us": 1e3 * median(beyond) if beyond else None,
    }
