"""Reading stretches of a stream: headers only, or all of it, by a consumer that lives as long as the walk."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Final, NamedTuple

import msgspec
from nats.aio.msg import Msg

from retrysafe.stores.nats.bucket import API, refused
from retrysafe.stores.nats.wire import ApiError, Wire

_BATCH = 1000
_FORGOTTEN_AFTER_NANOSECONDS = 30_000_000_000
# $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<nanoseconds>.<pending>; where there are domains,
# two more words stand behind the second.
_PLAIN_WORDS, _SEQ, _NANOSECONDS = 9, 5, 7


class _Consumer(msgspec.Struct, frozen=True):
    name: str = ""
    num_pending: int = 0
    error: ApiError | None = None


_consumers: Final = msgspec.json.Decoder(_Consumer)


class Passed(NamedTuple):
    """A message that a walk came by.

    Attributes:
        subject: where it lies.
        seq: in the stream.
        stored_at: when, by the server's clock, in seconds since the epoch.
        headers: some, or none.
        body: empty in a walk of headers.
    """

    subject: str
    seq: int
    stored_at: float
    headers: dict[str, str]
    body: bytes

    @property
    def digest(self) -> bytes:
        """What the last word of the subject says."""
        return bytes.fromhex(self.subject.rpartition(".")[2])


async def walk(
    wire: Wire, stream: str, subject: str, *, first: int = 1, last: int | None = None, headers_only: bool = False
) -> AsyncGenerator[Passed, None]:
    """Go through the messages of some subjects in their order; to be closed, as it has a consumer.

    Args:
        wire: the connection.
        stream: which stream.
        subject: which subjects, with wildcards.
        first: from which sequence on.
        last: up to which; None is the end as it is now.
        headers_only: spare the bodies.

    Raises:
        StoreUnavailable: it could not be gone through.
    """
    made = await _make(wire, stream, subject, first, headers_only=headers_only)
    pending = made.num_pending
    try:
        while pending > 0:
            request = msgspec.json.encode({"batch": min(pending, _BATCH), "no_wait": True})
            question = f"{API}.CONSUMER.MSG.NEXT.{stream}.{made.name}"
            batch = [_passed(message) for message in await wire.flood(question, request, min(pending, _BATCH))]
            if not batch:
                return
            # What came in meanwhile counts as well, but a walk has an end.
            pending -= len(batch)
            for each in batch:
                if last is not None and each.seq > last:
                    return
                yield each
    finally:
        if wire.is_open:
            await wire.tell(f"{API}.CONSUMER.DELETE.{stream}.{made.name}", b"")


async def _make(wire: Wire, stream: str, subject: str, first: int, *, headers_only: bool) -> _Consumer:
    config: dict[str, Any] = {
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": max(first, 1),
        "ack_policy": "none",
        "replay_policy": "instant",
        "filter_subject": subject,
        "headers_only": headers_only,
        "inactive_threshold": _FORGOTTEN_AFTER_NANOSECONDS,
        "mem_storage": True,
        "num_replicas": 1,
    }
    request = msgspec.json.encode({"stream_name": stream, "config": config})
    made = _consumers.decode((await wire.ask(f"{API}.CONSUMER.CREATE.{stream}", request)).data)
    if made.error is not None:
        raise refused(made.error)
    return made


def _passed(message: Msg) -> Passed:
    words = message.reply.split(".")
    shift = 0 if len(words) == _PLAIN_WORDS else 2
    return Passed(
        subject=message.subject,
        seq=int(words[_SEQ + shift]),
        stored_at=int(words[_NANOSECONDS + shift]) / 1e9,
        headers=message.headers or {},
        body=message.data,
    )
