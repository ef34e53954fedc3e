"""How the services misbehave: decided by the seed, for each call of each order."""

from __future__ import annotations

import random
from enum import Enum, auto

from retrysafe.demo.checkout.orders import is_hurried

DECLINED_STATUS = 402
SOLD_OUT_STATUS = 422

_FORWARD, _BACK = ("holds", "charges", "parcels"), ("holds/undo", "charges/undo")
_PART_IN_A_MOOD = 0.3
_PART_REFUSED = 0.06


class Mood(Enum):
    """What a service makes of a call."""

    FINE = auto()
    """It does it and says so."""
    FAILS_BEFORE = auto()
    """503, and nothing was done."""
    FAILS_AFTER = auto()
    """503, and it was done."""
    HANGS_BEFORE = auto()
    """It does it when nobody waits any more."""
    HANGS_AFTER = auto()
    """It does it and answers when nobody waits any more."""
    FORGETS = auto()
    """It does it and hangs up in the middle of the answer."""
    LANDS_LATE = auto()
    """It does it so late that even the undo may have come before."""

    @property
    def comes_late(self) -> bool:
        """Whether nobody waits any more when it is done."""
        return self in {Mood.HANGS_BEFORE, Mood.LANDS_LATE}


_MOODS = (Mood.FAILS_BEFORE, Mood.FAILS_AFTER, Mood.HANGS_BEFORE, Mood.HANGS_AFTER, Mood.FORGETS)


def mood_of(seed: int, what: str, order: str, nth: int) -> Mood:
    """Return how a call goes.

    Args:
        seed: the run's seed.
        what: the book that it is for, such as ``charges``, with ``/undo`` or ``/find`` behind it if it is that.
        order: which order it is for.
        nth: which call of that kind for that order, from 1; only the first misbehaves, so that it ends.
    """
    if is_hurried(order) and what == "charges":
        return random.Random(f"{seed}/hurry/{order}").choice([Mood.FAILS_AFTER, Mood.LANDS_LATE])
    if is_hurried(order) and what == "charges/find":
        return Mood.FAILS_BEFORE
    luck = random.Random(f"{seed}/mood/{order}")
    # One on the way forward and one on the way back: each costs an attempt, and back-off makes many of them long.
    in_mood = [luck.choice(_FORWARD) if luck.random() < _PART_IN_A_MOOD else "", luck.choice(_BACK), "charges/find"]
    if nth > 1 or what not in in_mood or (what not in _FORWARD and luck.random() >= _PART_IN_A_MOOD):
        return Mood.FINE
    return luck.choice(_MOODS)


def refusal_of(seed: int, what: str, order: str) -> int | None:
    """Return the status of a definite refusal, always the same for an order; None when there is none."""
    refused = random.Random(f"{seed}/refusal/{what}/{order}").random() < _PART_REFUSED
    if is_hurried(order) or not refused:
        return None
    return {"charges": DECLINED_STATUS, "holds": SOLD_OUT_STATUS}.get(what)
