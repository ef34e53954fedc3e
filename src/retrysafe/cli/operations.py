"""Reading operations from a store: pages, one by the beginning of its id, and what programs get to see of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any

from retrysafe.cli.complaints import Misuse
from retrysafe.cli.words import duration, iso, shortest_ids
from retrysafe.protocol.flows import phase_of
from retrysafe.protocol.model import Checkpoint, Mode
from retrysafe.protocol.states import LEASED, State
from retrysafe.stores.base import Query, Store

ABANDONED = "abandoned"
_CANDIDATES = 5
_NEWEST = 200
_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which operations to list.

    Attributes:
        states: those in one of these states; empty, and not only abandoned ones, means all.
        abandoned: also those, or only those, that are abandoned.
        name: only this operation name.
        after: behind this operation id.
        limit: how many at most.
    """

    states: frozenset[State]
    abandoned: bool
    name: str | None
    after: str | None
    limit: int

    def covers(self, checkpoint: Checkpoint) -> bool:
        """Tell whether a checkpoint is in one of the states, or abandoned."""
        return checkpoint.state in self.states or is_abandoned(checkpoint)


def is_abandoned(checkpoint: Checkpoint) -> bool:
    """Tell whether an operation is not final and its lease is over."""
    return checkpoint.state in LEASED and checkpoint.lease_remaining_seconds <= 0


def state_word(checkpoint: Checkpoint) -> str:
    """Name the state as people should see it: an abandoned operation is not "running"."""
    return ABANDONED if is_abandoned(checkpoint) else checkpoint.state.value


def due_words(checkpoint: Checkpoint) -> str:
    """Say what recovery does next with an abandoned operation, and when; empty for others."""
    if not is_abandoned(checkpoint):
        return ""
    forward = "park" if checkpoint.mode is Mode.ONCE else "retry"
    what = "undo" if checkpoint.state is State.UNDOING else forward
    left = checkpoint.due_at - checkpoint.now
    return f"{what} in {duration(left)}" if left > 0 else f"{what} due"


def listed(store: Store, wanted: Wanted) -> Sequence[Checkpoint]:
    """Read one page, newest first."""
    if not (wanted.abandoned and wanted.states):
        return _page(store, wanted, wanted.states, wanted.after, wanted.limit)
    # Either of two kinds, which no single query says: read what may be one of both, and choose here.
    found: list[Checkpoint] = []
    for checkpoint in _open_or(store, wanted):
        if wanted.covers(checkpoint):
            found.append(checkpoint)
        if len(found) == wanted.limit:
            break
    return found


def find(store: Store, beginning: str) -> Checkpoint:
    """Find the one operation whose id begins like this, as a listing shows it.

    Raises:
        Misuse: there is none, or more than one; it names candidates.
    """
    prefix = beginning.strip().rstrip("….").lower()
    found = store.query(partial(store.verbs.listing, Query(operation_id=prefix, limit=_CANDIDATES + 1)))
    if prefix and len(found) == 1:
        return found[0]
    if not prefix or not found:
        newest = store.query(partial(store.verbs.listing, Query(limit=_NEWEST)))
        ids = [checkpoint.operation_id for checkpoint in newest]
        near = get_close_matches(prefix, [name[: len(prefix) or None] for name in ids], n=_CANDIDATES, cutoff=0.8)
        likely = (
            [checkpoint for checkpoint in newest if checkpoint.operation_id.startswith(tuple(near))] if near else []
        )
        raise Misuse(
            f"no operation has an id that begins with {prefix!r}",
            facts=["did you mean", *_lines(likely[:_CANDIDATES])] if likely else [],
            fixes=["retrysafe ops ls STORE_URL lists them; one may also have been purged after its tombstone"],
        )
    more = "at least " if len(found) > _CANDIDATES else ""
    raise Misuse(
        f"{more}{len(found)} operations have an id that begins with {prefix!r}",
        facts=_lines(found),
        fixes=["give more of it"],
    )


def document(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what programs see of an operation in a list. Instants are the store's, as is ``now``."""
    leased = checkpoint.state in LEASED
    return {
        "operation": checkpoint.operation_id,
        "state": checkpoint.state.value,
        "abandoned": is_abandoned(checkpoint),
        "name": checkpoint.name,
        "mode": checkpoint.mode.value,
        "version": checkpoint.version,
        "phase": phase_of(checkpoint) if leased else None,
        "undoing": checkpoint.undoing,
        "attempt": checkpoint.attempt,
        "deaths": checkpoint.deaths,
        "fence": checkpoint.fence,
        "age_seconds": round(checkpoint.age_seconds, 3),
        "lease_remaining_seconds": round(checkpoint.lease_remaining_seconds, 3) if leased else None,
        "due_in_seconds": round(checkpoint.due_at - checkpoint.now, 3) if is_abandoned(checkpoint) else None,
        "key_hint": checkpoint.key_hint,
        "principal": checkpoint.principal,
        "namespace": checkpoint.namespace,
        "reason": checkpoint.reason,
        "created_at": iso(checkpoint.created_at),
        "lease_until": iso(checkpoint.lease_until),
        "due_at": iso(checkpoint.due_at),
        "finished_at": iso(checkpoint.finished_at),
        "outcome_until": iso(checkpoint.outcome_until),
        "tombstone_until": iso(checkpoint.tombstone_until),
        "now": iso(checkpoint.now),
    }


def _open_or(store: Store, wanted: Wanted) -> Iterator[Checkpoint]:
    """Read, page after page, what is in one of the states or may be abandoned."""
    after = wanted.after
    while True:
        page = _page(store, wanted, wanted.states | LEASED, after, _PAGE)
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1].operation_id


def _page(
    store: Store, wanted: Wanted, states: frozenset[State], after: str | None, limit: int
) -> Sequence[Checkpoint]:
    query = Query(states=states, abandoned=wanted.abandoned and not states, name=wanted.name, after=after, limit=limit)
    return store.query(partial(store.verbs.listing, query))


def _lines(found: Sequence[Checkpoint]) -> list[str]:
    length = shortest_ids(checkpoint.operation_id for checkpoint in found)
    return [f"{seen.operation_id[:length]}  {state_word(seen)}  {seen.name}" for seen in found]
