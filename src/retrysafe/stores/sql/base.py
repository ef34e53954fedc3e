"""What all verbs of a SQL database stand on: its statements, its clock, and the write that proves its right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from retrysafe.protocol.effects import Receipt, Written
from retrysafe.protocol.model import Checkpoint, Claim
from retrysafe.protocol.states import State
from retrysafe.stores.decisions import receipt
from retrysafe.stores.instants import Instants
from retrysafe.stores.program import ALONE, Batch, Program, Statement, whole
from retrysafe.stores.rows import checkpoint
from retrysafe.stores.sql.statements import Statements

_CLAIMS_PER_STATEMENT = 200


class Dialect:
    """A database's statements and clock, and what every group of verbs needs of them."""

    def __init__(self, sql: Statements, instants: Instants) -> None:
        """Join them.

        Args:
            sql: the database's wording of every statement.
            instants: its clock.
        """
        self._sql = sql
        self._instants = instants

    @whole
    def read(self, digest: bytes) -> Program[Checkpoint | None]:
        """Read one checkpoint."""
        return self._one("read", digest, ALONE)

    def _now(self) -> Program[float]:
        return self._instants.now()

    def _one(self, name: str, digest: bytes, batch: Batch | None = None) -> Program[Checkpoint | None]:
        answer = yield Statement(self._sql[name], (digest,), batch)
        if not answer.rows:
            return None
        return checkpoint(answer.rows[0], (yield from self._now()))

    def _lock(self, digest: bytes) -> Program[Checkpoint | None]:
        """Read a checkpoint so that nobody else changes it before our transaction ends."""
        return self._one("lock", digest)

    def _write(self, name: str, terms: Sequence[Any], claim: Claim, target: State) -> Program[Receipt]:
        """Make a fenced write; only when it is refused, find out whether it had been made before (C4, D4)."""
        answer = yield Statement(self._sql[name], (*terms, *right(claim)), ALONE)
        if answer.changed:
            return Written()
        return receipt((yield from self.read(claim.digest)), claim, target)


def right(holder: Claim | Checkpoint) -> tuple[bytes, str, int]:
    """What every write compares."""
    return holder.digest, holder.operation_id, holder.fence


def chunks(claims: Sequence[Claim]) -> Iterator[Sequence[Claim]]:
    """Split claims into as many as one statement takes."""
    for start in range(0, len(claims), _CLAIMS_PER_STATEMENT):
        yield claims[start : start + _CLAIMS_PER_STATEMENT]
