"""The outbox: messages that are durable if and only if what they tell of is (R12, I11)."""

from __future__ import annotations

from collections.abc import Sequence

from retrysafe.protocol.encoding import decode_message, encode_message
from retrysafe.protocol.model import Claim, Message
from retrysafe.stores.base import Outgoing
from retrysafe.stores.program import Program, Statement
from retrysafe.stores.sql.base import Dialect, right


class OutboxVerbs(Dialect):
    """Messages on their way."""

    def take_messages(self, limit: int, lease_seconds: float) -> Program[Sequence[Outgoing]]:
        """Take messages that are due, oldest first (R12)."""
        now = yield from self._now()
        answer = yield Statement(self._sql["take_messages"], (now + lease_seconds, now, limit))
        rows = sorted(answer.rows, key=lambda row: row[0])
        return [
            Outgoing(operation_id, number, decode_message(bytes(record))) for _, operation_id, number, record in rows
        ]

    def sent_messages(self, sent: Sequence[Outgoing]) -> Program[None]:
        """Delete messages that have left (R12)."""
        for message in sent:
            yield Statement(self._sql["sent_message"], (message.operation_id, message.number))

    def _enqueue(self, claim: Claim, messages: Sequence[Message], now: float) -> Program[None]:
        """Put messages into the outbox, numbered on from those that the operation sent before."""
        for message in messages:
            yield Statement(self._sql["count_message"], right(claim))
            yield Statement(self._sql["enqueue"], (encode_message(message), now, claim.digest))
