"""The three lanes: one shop, three ways to meet a retry."""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never


class Lane(StrEnum):
    """One way to meet a retry."""

    NOTHING = "A"
    CACHE = "B"
    RETRYSAFE = "C"

    @property
    def caption(self) -> str:
        """The lane's letter and name."""
        match self:
            case Lane.NOTHING:
                return "A  no protection"
            case Lane.CACHE:
                return "B  get-then-set"
            case Lane.RETRYSAFE:
                return "C  retrysafe"
            case _:
                assert_never(self)

    @property
    def does(self) -> str:
        """What the lane does with a request, in one line."""
        match self:
            case Lane.NOTHING:
                return "runs whatever arrives"
            case Lane.CACHE:
                return "the usual recipe: look the key up in a cache, run, save the answer"
            case Lane.RETRYSAFE:
                return "a durable checkpoint (SQLite, FULL), then the operation, its outcome, the answer"
            case _:
                assert_never(self)


ORDERS_PATH = "/orders"
LEASE_SECONDS = 1.0
"""The shortest lease there is, so that nobody has to watch the default 15 s pass."""
SCAN_SECONDS = 0.2
"""For the same reason shorter than the default second."""
