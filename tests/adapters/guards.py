"""Guards on a store in memory that can be made to fail, with what they told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from retrysafe import SHARED, Checkpoint, Event, Policy, RetrySafe
from retrysafe.stores.base import Query
from retrysafe.stores.memory import MemoryStore
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.faults import FaultyStore

LIMIT = 1000
"""Of requests and of responses, in bytes."""


@dataclass
class House:
    """A guard and what belongs to it.

    ``/once/…`` and ``/again/…`` are guarded in their modes.
    """

    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    disguise: Callable[[FaultyStore], Any] = lambda store: store
    """Makes what the guard takes for its store."""

    def __post_init__(self) -> None:
        self.clock = ManualClock()
        self.store = FaultyStore(MemoryStore(clock=self.clock))
        self.told: list[Event] = []
        self.guard = self.another_guard()

    def another_guard(self, **settings: Any) -> RetrySafe:
        """Make one more guard on the same store, as another process would."""
        defaults: dict[str, Any] = {
            "principal": SHARED,
            "scan": None,
            "drain": timedelta(seconds=2),
            "policy": Policy(request_limit=LIMIT, response_limit=LIMIT),
        }
        guard = RetrySafe(
            self.disguise(self.store), sinks=[self.told.append], **{**defaults, **self.settings, **settings}
        )
        guard.protect("POST,DELETE /again/*", name="again", mode="again")
        guard.protect("POST,DELETE /open/*", name="open", fail_open=True)
        return guard

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """Every checkpoint, newest first."""
        return list(self.store.query(partial(self.store.verbs.listing, Query(limit=1000))))

    @property
    def states(self) -> list[str]:
        return [str(checkpoint.state) for checkpoint in self.checkpoints]

    def events(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.told if isinstance(event, kind)]
