"""How long to leave an operation alone after attempts that ended without an outcome (R8)."""

from __future__ import annotations

from random import SystemRandom

# Of our own: an application may seed the shared one, and a test of it may watch that.
CHANCE = SystemRandom()
_BACKOFF_SECONDS = 1.0
_LONGEST_BACKOFF_SECONDS = 300.0


def backoff_seconds(deaths: int) -> float:
    """Return how many seconds to leave an operation alone after so many dead attempts.

    Full jitter of 1 s·2ⁿ, at most 5 min (R8).
    """
    longest = min(_BACKOFF_SECONDS * 2 ** min(deaths, 16), _LONGEST_BACKOFF_SECONDS)
    return CHANCE.uniform(0.0, longest)
