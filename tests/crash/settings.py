"""What a shop's process is told."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

ENVIRONMENT = "RETRYSAFE_CRASH_SHOP"

Fault = tuple[str, str, int]
"""Verb, before or after it, at which call: there the process is killed."""


@dataclass(frozen=True)
class Settings:
    """What a shop's process is told.

    Attributes:
        directory: where the store, the ledger, the gate and the events are.
        mode: of every operation.
        lease_seconds: of every operation; a tenth of its longest duration.
        scan_seconds: time between two looks for abandoned operations, or None not to look.
        drain_seconds: how long a shutdown waits.
        restores: whether a re-run may enter below authentication, and whether it does so as who it should.
        attempts: how many may die.
        kept_seconds: how long outcomes are kept, and their tombstones.
        opens_early: whether the store is opened when the application is loaded, before any fork.
        faults: where the process is killed.
        store: URL of the store; empty for a file in the directory.
        step: in mode ``steps``, what kind of step has the effect.
        dies_at_event: the process is killed when it tells of an event of this kind.
    """

    directory: str
    mode: str = "once"
    lease_seconds: float = 1.0
    scan_seconds: float | None = None
    drain_seconds: float = 5.0
    restores: Literal["rightly", "wrongly", ""] = "rightly"
    attempts: int = 12
    kept_seconds: float = 86_400.0
    opens_early: bool = False
    faults: tuple[Fault, ...] = ()
    store: str = ""
    step: Literal["retry", "probe", "park", "local", ""] = ""
    dies_at_event: str = ""

    @property
    def store_url(self) -> str:
        return self.store or f"sqlite:///{self.directory}/store.db"

    def write(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def read(text: str) -> Settings:
        return Settings(**json.loads(text))
