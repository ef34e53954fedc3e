"""The outbox: messages are durable if and only if what they tell of is, because they lie in its slot (R12, I11)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from struct import Struct

from retrysafe.protocol.encoding import decode_message
from retrysafe.stores.base import Outgoing
from retrysafe.stores.program import Program
from retrysafe.stores.redis.attempts import AttemptVerbs
from retrysafe.stores.redis.calls import Call, Words, ask_all
from retrysafe.stores.redis.layout import pack_id, unpack_id

_NUMBER = Struct(">I")
_PLACE_BYTES = 8


class OutboxVerbs(AttemptVerbs):
    """Messages on their way.

    Their names begin with when they entered, so that they sort by it over all buckets.
    """

    def take_messages(self, limit: int, lease_seconds: float) -> Program[Sequence[Outgoing]]:
        """Take messages that are due, oldest first (R12)."""
        found: list[Outgoing] = []
        while True:
            calls = [Call("outbox", bucket.outbox[:2], (self._stamp(), limit)) for bucket in self._keys.buckets]
            replies = yield from ask_all(calls)
            due = sorted(
                ((name, number) for number, lists in enumerate(replies) for name in chain(*lists)), key=itemgetter(0)
            )
            wanted = due[: limit - len(found)]
            if not wanted:
                return found
            taken = yield from ask_all([self._taking(name, number, lease_seconds) for name, number in wanted])
            # What another was faster to take is not ours; what is behind it may be.
            found += [_outgoing(name, reply[0]) for (name, _), reply in zip(wanted, taken, strict=True) if reply[0]]

    def sent_messages(self, sent: Sequence[Outgoing]) -> Program[None]:
        """Delete messages that have left (R12). Their ids don't say where they lie: every bucket is told."""
        if sent:
            fields = [_NUMBER.pack(message.number) + pack_id(message.operation_id) for message in sent]
            arguments: Words = (self._stamp(), *fields)
            yield from ask_all([Call("sent", bucket.outbox, arguments) for bucket in self._keys.buckets])

    def _taking(self, name: bytes, number: int, lease_seconds: float) -> Call:
        return Call("take", self._keys.buckets[number].outbox, (self._stamp(), name, lease_seconds))


def _outgoing(name: bytes, message: bytes) -> Outgoing:
    [number] = _NUMBER.unpack_from(name, _PLACE_BYTES)
    operation_id = unpack_id(name[_PLACE_BYTES + _NUMBER.size :])
    return Outgoing(operation_id, number, decode_message(message[_PLACE_BYTES:]))
