"""How long each measurement takes, and how often it is repeated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The size of a run. Whatever ends first ends a slice: its seconds or its count.

    Attributes:
        apps: which applications whole servers are measured with.
        most: largest number of requests, pairs or calls in one slice.
        web_rounds: rounds of the measurements with servers: HTTP, peers, alone.
        web_seconds: length of one slice of them.
        http_limit_seconds: no further round of the HTTP measurement begins that would probably end later.
        peers_limit_seconds: the same for peers.
        pair_rounds: rounds of the store measurement.
        pair_seconds: length of one slice of it.
        overhead_rounds: rounds of the adapter measurement.
        overhead_calls: calls in one batch of it.
        recoveries: how many abandoned operations are recovered.
        filled: how many checkpoints a store is filled with to see what they take.
        rows: how many checkpoints the largest table of the growth measurement has.
        growth_seconds: length of one slice of it.
        growth_rounds: rounds at each size.
    """

    apps: tuple[str, ...]
    most: int
    web_rounds: int
    web_seconds: float
    http_limit_seconds: float
    peers_limit_seconds: float
    pair_rounds: int
    pair_seconds: float
    overhead_rounds: int
    overhead_calls: int
    recoveries: int
    filled: int
    rows: int
    growth_seconds: float
    growth_rounds: int


DEFAULT = Plan(
    apps=("bare", "starlette", "fastapi", "flask", "django"),
    most=50_000,
    web_rounds=9,
    web_seconds=0.3,
    http_limit_seconds=340,
    peers_limit_seconds=75,
    pair_rounds=5,
    pair_seconds=0.3,
    overhead_rounds=11,
    overhead_calls=2_000,
    recoveries=10_000,
    filled=4_000,
    rows=10_000_000,
    growth_seconds=1.5,
    growth_rounds=5,
)
QUICK = Plan(
    apps=("bare", "fastapi"),
    most=50_000,
    web_rounds=1,
    web_seconds=0.1,
    http_limit_seconds=1,
    peers_limit_seconds=1,
    pair_rounds=1,
    pair_seconds=0.05,
    overhead_rounds=3,
    overhead_calls=500,
    recoveries=300,
    filled=500,
    rows=2_000,
    growth_seconds=0.1,
    growth_rounds=1,
)
