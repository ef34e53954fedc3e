"""How many checkpoints of a shop are in each state."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from retrysafe.protocol.states import FINAL, State
from retrysafe.stores.base import Query
from retrysafe.stores.urls import open_store

if TYPE_CHECKING:
    from collections.abc import Mapping

_PAGE = 1000


def checkpoints_url(folder: str) -> str:
    """Return the URL of a shop's store; ``synchronous`` is ``full`` by default."""
    return f"sqlite:///{folder}/checkpoints.db"


def states_in(folder: str) -> Mapping[State, int]:
    """Count the checkpoints in each state."""
    store = open_store(checkpoints_url(folder))
    states = Counter[State]()
    after: str | None = None
    try:
        store.open()
        while page := store.query(partial(store.verbs.listing, Query(after=after, limit=_PAGE))):
            states.update(checkpoint.state for checkpoint in page)
            after = page[-1].operation_id
    finally:
        store.close()
    return states


def unfinished(states: Mapping[State, int]) -> int:
    """Count what is neither final nor parked."""
    return sum(count for state, count in states.items() if state not in FINAL and state is not State.PARKED)
