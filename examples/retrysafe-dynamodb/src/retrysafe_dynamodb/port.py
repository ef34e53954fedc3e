"""What the verbs need of DynamoDB, for threads; the verbs are retrysafe's own."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from retrysafe.stores.documents.port import Change, Found, Index, Line, Loaded, Place, Shown
from retrysafe_dynamodb.audit import AuditLines
from retrysafe_dynamodb.documents import Documents
from retrysafe_dynamodb.failures import unless_refused


class DynamoDBPort:
    """A :class:`~retrysafe.stores.documents.port.Port` on a table.

    Args:
        documents: the documents in it.
        audit: its audit.
        threads: writes what may be written at the same time.
    """

    def __init__(self, documents: Documents, audit: AuditLines, threads: ThreadPoolExecutor) -> None:
        self._documents, self._audit, self._threads = documents, audit, threads

    def load(self, digests: Sequence[bytes]) -> Sequence[Loaded]:
        """Read documents."""
        with unless_refused():
            return self._documents.load(digests)

    def write(self, changes: Sequence[Change]) -> Sequence[Any]:
        """Carry out changes, each under its own condition.

        DynamoDB has no such batch: a transaction is carried out only if all conditions hold. So they go at the same
        time.
        """
        with unless_refused():
            if len(changes) == 1:
                return [self._documents.write(changes[0])]
            return list(self._threads.map(self._documents.write, changes))

    def find(self, index: Index, by: float, after: Place | None, limit: int) -> Sequence[Found]:
        """List what an index has."""
        with unless_refused():
            return self._documents.find(index, by, after, limit)

    def newest(self, after: Place | None, limit: int) -> Sequence[Shown]:
        """List all documents."""
        with unless_refused():
            return self._documents.newest(after, limit)

    def append(self, line_id: str, operation_id: str, body: bytes) -> None:
        """Add a line to the audit."""
        with unless_refused():
            self._audit.append(line_id, operation_id, body)

    def lines(self, operation_id: str | None, limit: int) -> Sequence[Line]:
        """List the audit."""
        with unless_refused():
            return self._audit.lines(operation_id, limit)
