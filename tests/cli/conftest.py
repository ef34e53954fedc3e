"""A shop's store with operations in every state, and the command line in this process."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result

from retrysafe.cli.commands import root
from retrysafe.cli.opening import STORE_URL
from retrysafe.protocol.effects import Written
from retrysafe.protocol.encoding import encode_outcome, encode_request
from retrysafe.protocol.model import Checkpoint, Claim, Mode, Outcome, StoredRequest
from retrysafe.protocol.steps import Memo, StepKind, StepStatus
from retrysafe.protocol.verdicts import Claimed, Verdict
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

    def record(self, claim: Claim, outcome: Outcome = OUTCOME, **terms: Any) -> None:
        """Record an outcome."""
        kept = {"retention_seconds": DAY_SECONDS, "tombstone_seconds": 30 * DAY_SECONDS} | terms
        self.store.run(partial(self.store.verbs.record, claim, encode_outcome(outcome), **cast(Any, kept)))

    def park(self, claim: Claim, reason: str = "the bank did not answer") -> None:
        """Park an operation."""
        self.store.run(partial(self.store.verbs.park, claim, reason))

    def release(self, claim: Claim) -> None:
        """Release a key."""
        self.store.run(partial(self.store.verbs.release, claim))

    def memo(self, claim: Claim, name: str, seq: int, status: StepStatus = StepStatus.DONE, **memo: Any) -> None:
        """Write what is known of a step."""
        kind = memo.pop("kind", StepKind.EXTERNAL)
        written = Memo(name, memo.pop("index", 0), seq, kind, status, claim.fence, **memo)
        assert self.store.run(partial(self.store.verbs.memoize, claim, written)) == Written()

    def postpone(self, claim: Claim, seconds: float, reason: str) -> None:
        """Leave an operation to its next attempt."""
        self.store.run(partial(self.store.verbs.postpone, claim, seconds, reason))

    def begin_undo(self, claim: Claim, reason: str, outcome: Outcome | None = None) -> None:
        """Undo an operation from now on."""
        kept = None if outcome is None else encode_outcome(outcome)
        self.store.run(partial(self.store.verbs.begin_undo, claim, reason, kept))

    def read(self, claim: Claim) -> Checkpoint:
        """Read an operation's checkpoint."""
        checkpoint = self.store.query(partial(self.store.verbs.read, claim.digest))
        assert checkpoint is not None
        return checkpoint

    def asked_again(self, key: str, **ask: Any) -> Verdict:
        """Claim as the client's retry does."""
        return self.store.run(partial(self.store.verbs.claim, an_ask(key, attempt_id=uuid7(), **ask)))

    def order(self, key: str = "order-1") -> Claim:
        """Leave an order whose first step is done, and whose second may have happened; return its claim."""
        claim = self.claim(key, mode=Mode.STEPS, name="order.create", request=encode_request(REQUEST))
        hold: dict[str, Any] = {"undo": "shop:free", "arguments": b'["tea"]', "timeout_seconds": 10.0}
        self.memo(claim, "reserve", 1, StepStatus.INTENT, **hold)
        self.memo(claim, "reserve", 1, value=b'{"hold":7}', **hold)
        self.memo(claim, "charge", 2, StepStatus.INTENT, undo="shop:refund", timeout_seconds=600.0)
        return claim

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


class Terminal:
    """A person at a terminal: sees what a command prints, and types."""

    def __init__(self, *arguments: str) -> None:
        parent, child = pty.openpty()
        self._screen = parent
        self.seen = ""
        environment = {name: value for name, value in os.environ.items() if name != STORE_URL}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "retrysafe", *arguments],
            stdin=child,
            stdout=child,
            stderr=child,
            env={**environment, "TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "120", "USER": "ada"},
        )
        os.close(child)

    def until(self, text: str) -> str:
        """Read on until the text was printed behind what was read before; return everything so far."""
        begin, give_up_at = len(self.seen), time.monotonic() + 60
        while text not in self.seen[begin:]:
            assert time.monotonic() < give_up_at, f"{text!r} is not in {self.seen!r}"
            assert self._read(), f"the command ended with {self.seen!r}"
        return self.seen

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self._screen, f"{text}\n".encode())

    def end(self) -> int:
        """Read to the end; return the exit code."""
        while self._read():
            pass
        return self.process.wait(60)

    def close(self) -> None:
        """End the command, should it not have ended by itself."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(60)
        os.close(self._screen)

    def _read(self) -> bool:
        readable, _, _ = select.select([self._screen], [], [], 60)
        try:
            chunk = os.read(self._screen, 65536) if readable else b""
        except OSError:
            chunk = b""  # the other side is closed
        self.seen += chunk.decode().replace("\r\n", "\n")
        return bool(chunk)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """Run a command line at a terminal of its own."""
    terminals: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        terminals.append(Terminal(*arguments))
        return terminals[-1]

    yield start
    for each in terminals:
        each.close()


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
