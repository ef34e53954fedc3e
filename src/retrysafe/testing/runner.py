"""A store's verbs as plain methods, through either of its faces, so that one test covers both."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Literal, TypeVar

from retrysafe.protocol.effects import Receipt
from retrysafe.protocol.model import Ask, Checkpoint, Claim, Message, Mode
from retrysafe.protocol.operator import Audit, Intervention, Refusal
from retrysafe.protocol.steps import History, Memo
from retrysafe.protocol.verdicts import Claimed, Verdict
from retrysafe.stores.base import Meta, Outgoing, Purged, Query, Renewal, Terms, Wanted
from retrysafe.stores.program import Factory
from retrysafe.stores.urls import AnyStore
from retrysafe.testing.asks import DAY_SECONDS, a_memo, some_terms

T = TypeVar("T")

Face = Literal["sync", "async"]

EVERYTHING_WANTED = Wanted("tests", frozenset(Mode))
"""What an application asks for that can run every operation of the namespace of tests."""


class Runner:
    """Runs what it is asked through one face of a store and returns the reply; blocks either way.

    Every method that has the name of a verb promises what :class:`~retrysafe.stores.base.Verbs` says about it.

    Args:
        store: the store.
        face: ``sync`` runs in this thread, ``async`` on an event loop of its own.

    Attributes:
        store: the store.
    """

    def __init__(self, store: AnyStore, face: Face) -> None:
        self.store = store
        self._verbs = store.verbs
        self._loop = asyncio.Runner() if face == "async" else None
        self._audited = 0

    def close(self) -> None:
        """Close the store through the same face, and the event loop."""
        if self._loop is None:
            self.store.close()
        else:
            self._loop.run(self.store.aclose())
            self._loop.close()

    def open(self) -> Meta:
        """Open the store."""
        meta = self.store.open() if self._loop is None else self._loop.run(self.store.aopen())
        self._audited = max((line.number for line in self.audit(limit=1)), default=0)
        return meta

    def run(self, program: Factory[T]) -> T:
        """Run a program that may write."""
        return self.store.run(program) if self._loop is None else self._loop.run(self.store.arun(program))

    def query(self, program: Factory[T]) -> T:
        """Run a program that only reads."""
        return self.store.query(program) if self._loop is None else self._loop.run(self.store.aquery(program))

    def together(self, programs: Sequence[Factory[T]]) -> list[T]:
        """Run programs at the same time: in as many threads, or in as many tasks."""
        if self._loop is not None:
            return self._loop.run(self._gather(programs))
        start = Barrier(len(programs))

        def one(program: Factory[T]) -> T:
            start.wait()
            return self.store.run(program)

        with ThreadPoolExecutor(len(programs)) as threads:
            return list(threads.map(one, programs))

    async def _gather(self, programs: Sequence[Factory[T]]) -> list[T]:
        return list(await asyncio.gather(*map(self.store.arun, programs)))

    def claim(self, ask: Ask) -> Verdict:
        """Claim."""
        return self.run(partial(self._verbs.claim, ask))

    def claimed(self, ask: Ask) -> Claim:
        """Claim, and expect to get the claim.

        Raises:
            AssertionError: something stood in the way.
        """
        return _claim_of(self.claim(ask))

    def reclaim(self, seen: Checkpoint, terms: Terms | None = None) -> Verdict | None:
        """Take over what was seen abandoned."""
        return self.run(partial(self._verbs.reclaim, seen, terms or some_terms()))

    def reclaimed(self, seen: Checkpoint, terms: Terms | None = None) -> Claim:
        """Take over what was seen abandoned, and expect to get the claim.

        Raises:
            AssertionError: it was not abandoned any more, or was parked.
        """
        return _claim_of(self.reclaim(seen, terms))

    def dispatch(self, wanted: Wanted = EVERYTHING_WANTED, limit: int = 100) -> Sequence[Checkpoint]:
        """List what is abandoned, due, and noted by nobody."""
        return self.run(partial(self._verbs.dispatch, wanted, limit))

    def trail(self, holder: Ask | Claim) -> History:
        """Read a checkpoint and its memos, and expect that there is one.

        Raises:
            AssertionError: there is none.
        """
        history = self.query(partial(self._verbs.trail, _digest(holder)))
        if history is None:
            raise AssertionError("expected a checkpoint")
        return history

    def memoize(self, claim: Claim, memo: Memo | None = None, messages: Sequence[Message] = ()) -> Receipt:
        """Write a memo, by default an intent."""
        memo = memo or a_memo(fence=claim.fence)
        return self.run(partial(self._verbs.memoize, claim, memo, messages))

    def postpone(self, claim: Claim, seconds: float = 5.0, reason: str = "it failed") -> Receipt:
        """Postpone."""
        return self.run(partial(self._verbs.postpone, claim, seconds, reason))

    def begin_undo(self, claim: Claim, reason: str = "it was refused", outcome: bytes | None = None) -> Receipt:
        """Begin to undo."""
        return self.run(partial(self._verbs.begin_undo, claim, reason, outcome))

    def renew(self, *claims: Claim) -> Sequence[Renewal]:
        """Renew claims."""
        return self.run(partial(self._verbs.renew, claims))

    def begin_stream(self, claim: Claim) -> Receipt:
        """Begin a stream."""
        return self.run(partial(self._verbs.begin_stream, claim))

    def record(
        self,
        claim: Claim,
        outcome: bytes = b"the outcome",
        *,
        retention_seconds: float = DAY_SECONDS,
        tombstone_seconds: float = 30 * DAY_SECONDS,
        undone: bool = False,
        messages: Sequence[Message] = (),
    ) -> Receipt:
        """Record an outcome."""
        program = partial(
            self._verbs.record,
            claim,
            outcome,
            retention_seconds=retention_seconds,
            tombstone_seconds=tombstone_seconds,
            undone=undone,
            messages=messages,
        )
        return self.run(program)

    def release(self, claim: Claim) -> Receipt:
        """Release."""
        return self.run(partial(self._verbs.release, claim))

    def park(self, claim: Claim, reason: str = "nobody knows") -> Receipt:
        """Park."""
        return self.run(partial(self._verbs.park, claim, reason))

    def hand_over(self, *claims: Claim) -> None:
        """Hand claims over."""
        self.run(partial(self._verbs.hand_over, claims))

    def read(self, holder: Ask | Claim) -> Checkpoint:
        """Read a checkpoint, and expect that there is one.

        Raises:
            AssertionError: there is none.
        """
        checkpoint = self.look_up(holder)
        if checkpoint is None:
            raise AssertionError("expected a checkpoint")
        return checkpoint

    def look_up(self, holder: Ask | Claim) -> Checkpoint | None:
        """Read a checkpoint."""
        return self.query(partial(self._verbs.read, _digest(holder)))

    def abandoned(self, limit: int = 100) -> Sequence[Checkpoint]:
        """List what is abandoned and due."""
        return self.query(partial(self._verbs.abandoned, limit))

    def intervene(self, seen: Checkpoint, intervention: Intervention) -> Checkpoint | Refusal:
        """Carry out what a person decided."""
        return self.run(partial(self._verbs.intervene, seen, intervention))

    def intervened(self, seen: Checkpoint, intervention: Intervention) -> Checkpoint:
        """Carry out what a person decided, and expect that it fits.

        Raises:
            AssertionError: it was refused.
        """
        answer = self.intervene(seen, intervention)
        if isinstance(answer, Refusal):
            raise AssertionError(f"expected that it fits, got {answer}")  # noqa: TRY004 - a test's expectation
        return answer

    def audit(self, operation_id: str | None = None, limit: int = 100) -> Sequence[Audit]:
        """List what persons did since the store was opened here: an audit is for ever, and others were here before."""
        lines = self.query(partial(self._verbs.audit, operation_id, limit))
        return [line for line in lines if line.number > self._audited]

    def take_messages(self, limit: int = 100, lease_seconds: float = 30.0) -> Sequence[Outgoing]:
        """Take messages that are due to be sent."""
        return self.run(partial(self._verbs.take_messages, limit, lease_seconds))

    def sent_messages(self, *sent: Outgoing) -> None:
        """Delete messages that have left."""
        self.run(partial(self._verbs.sent_messages, sent))

    def purge(self, limit: int = 500) -> Purged:
        """Purge one batch."""
        return self.run(partial(self._verbs.purge, limit))

    def purge_all(self, limit: int = 500) -> Purged:
        """Purge until there is nothing left to do now, and add up."""
        expired = deleted = 0
        while True:
            purged = self.purge(limit)
            expired += purged.expired
            deleted += purged.deleted
            if not purged.more:
                return Purged(expired, deleted, more=False)

    def listing(self, query: Query | None = None) -> Sequence[Checkpoint]:
        """List checkpoints for a person."""
        return self.query(partial(self._verbs.listing, query or Query()))


def _digest(holder: Ask | Claim) -> bytes:
    return holder.identity.digest if isinstance(holder, Ask) else holder.digest


def _claim_of(verdict: Verdict | None) -> Claim:
    if not isinstance(verdict, Claimed):
        raise AssertionError(f"expected the claim, got {verdict}")  # noqa: TRY004 - this is a test's expectation
    return verdict.claim
