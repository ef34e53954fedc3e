"""What the tests of the Redis store do with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from itertools import count

from retrysafe.protocol.effects import Receipt
from retrysafe.protocol.model import Ask, Checkpoint, Claim
from retrysafe.protocol.verdicts import Claimed
from retrysafe.stores.program import Program
from retrysafe.stores.redis import RedisStore
from retrysafe.testing.asks import DAY_SECONDS, an_ask
from retrysafe.testing.clock import ManualClock

_numbers = count(1)


def a_prefix() -> str:
    """Return a prefix of keys that no other store in a server has."""
    return f"tests-{os.getpid()}-{next(_numbers)}"


def by_hand(store: RedisStore, clock: ManualClock) -> RedisStore:
    """Give a store a clock that moves by hand."""
    return store.with_clock(clock)


def claimed(store: RedisStore, ask: Ask | None = None) -> Claim:
    """Claim, and expect to get the claim."""
    verdict = store.run(partial(store.verbs.claim, ask or an_ask()))
    assert isinstance(verdict, Claimed), verdict
    return verdict.claim


def recording(store: RedisStore, claim: Claim, outcome: bytes = b"the outcome") -> Callable[[], Program[Receipt]]:
    return lambda: store.verbs.record(claim, outcome, retention_seconds=DAY_SECONDS, tombstone_seconds=30 * DAY_SECONDS)


def read(store: RedisStore, holder: Claim | Ask) -> Checkpoint:
    digest = holder.digest if isinstance(holder, Claim) else holder.identity.digest
    met = store.query(partial(store.verbs.read, digest))
    assert met is not None
    return met
