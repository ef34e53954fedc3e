"""A shop's store with operations in every state, and the command line in this process."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result

from retrysafe.cli.commands import root
from retrysafe.cli.opening import STORE_URL
from retrysafe.protocol.encoding import encode_outcome, encode_request
from retrysafe.protocol.model import Claim, Mode, Outcome, StoredRequest
from retrysafe.protocol.verdicts import Claimed
from retrysafe.runtime.clock import uuid7
from retrysafe.stores.sqlite import SQLiteStore
from retrysafe.testing.asks import DAY_SECONDS, an_ask

Run = Callable[..., Result]

BODY = b'{"id": 7}'
OUTCOME = Outcome(201, ((b"Content-Type", b"application/json"), (b"Location", b"/charges/7")), BODY)
REQUEST = StoredRequest("PUT", b"/orders/7?x=1", ((b"content-type", b"application/json"),), b'{"sku":"A"}', "again")


class Shop:
    """Whoever serves from the store, at some time in the past."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"
        self._ago = 0.0
        self.store = SQLiteStore(path, clock=lambda: time.time() - self._ago)

    def seconds_ago(self, seconds: float) -> None:
        """Act at that instant; only nearer ones may follow, because no store's clock runs back."""
        self._ago = seconds

    def claim(self, key: str, **ask: Any) -> Claim:
        """Claim an operation; return the claim."""
        asked = an_ask(key, attempt_id=ask.pop("attempt_id", None) or uuid7(), **ask)
        verdict = self.store.run(partial(self.store.verbs.claim, asked))
        assert isinstance(verdict, Claimed)
        return verdict.claim

    def record(self, claim: Claim, outcome: Outcome = OUTCOME, **seconds: float) -> None:
        """Record an outcome."""
        kept = {"retention_seconds": DAY_SECONDS, "tombstone_seconds": 30 * DAY_SECONDS} | seconds
        self.store.run(partial(self.store.verbs.record, claim, encode_outcome(outcome), **cast(Any, kept)))

    def park(self, claim: Claim, reason: str = "the bank did not answer") -> None:
        """Park an operation."""
        self.store.run(partial(self.store.verbs.park, claim, reason))

    def release(self, claim: Claim) -> None:
        """Release a key."""
        self.store.run(partial(self.store.verbs.release, claim))

    def one_of_each(self) -> dict[str, str]:
        """Leave one operation in each state that a service of today leaves; return their ids."""
        self.seconds_ago(90)
        abandoned = self.claim("abandoned-1", mode=Mode.AGAIN, name="PUT /orders", request=encode_request(REQUEST))
        self.seconds_ago(10)
        done = self.claim("done-1")
        self.record(done)
        parked = self.claim("parked-1")
        self.park(parked)
        released = self.claim("released-1")
        self.release(released)
        running = self.claim("running-1", lease_seconds=600)
        self.store.close()
        claims = {
            "abandoned": abandoned,
            "done": done,
            "parked": parked,
            "released": released,
            "running": running,
        }
        return {state: claim.operation_id for state, claim in claims.items()}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A store with its tables and nothing in it."""
    shop = Shop(tmp_path / "shop.db")
    # Made yesterday, because its clock never runs back: tests act at instants of today.
    shop.seconds_ago(DAY_SECONDS)
    shop.store.open()
    shop.seconds_ago(0)
    yield shop
    shop.store.close()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line in this process; no store of this machine's user is in its environment."""
    monkeypatch.delenv(STORE_URL, raising=False)
    return lambda *arguments: CliRunner().invoke(root, [str(argument) for argument in arguments])
