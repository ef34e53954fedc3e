"""How long each measurement takes, and how often it is repeated."""

from __future__ import annotations

from dataclasses import dataclass

APPS = ("bare", "fastapi")
GUARDS = ("memory", "sqlite")
CONNECTIONS = (64, 1)
TASKS = (1, 16, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The size of a run. Whatever ends first ends a slice: its seconds or its count.

    Attributes:
        limit_seconds: no new round begins that would probably end later than this.
        most: largest number of requests, pairs or calls in one slice.
        web_rounds: rounds of the HTTP measurement.
        web_seconds: length of one slice of it.
        pair_rounds: rounds of the store measurement.
        pair_seconds: length of one slice of it.
        overhead_rounds: rounds of the adapter measurement.
        overhead_calls: calls in one batch of it.
        recoveries: how many abandoned operations are recovered.
    """

    limit_seconds: float
    most: int
    web_rounds: int
    web_seconds: float
    pair_rounds: int
    pair_seconds: float
    overhead_rounds: int
    overhead_calls: int
    recoveries: int


DEFAULT = Plan(
    limit_seconds=190,
    most=50_000,
    web_rounds=8,
    web_seconds=0.5,
    pair_rounds=5,
    pair_seconds=0.35,
    overhead_rounds=11,
    overhead_calls=2_000,
    recoveries=10_000,
)
QUICK = Plan(
    limit_seconds=31,
    most=50_000,
    web_rounds=3,
    web_seconds=0.15,
    pair_rounds=3,
    pair_seconds=0.08,
    overhead_rounds=3,
    overhead_calls=500,
    recoveries=300,
)
