"""What lies where: one bucket for documents and what finds them, another for the audit.

============================ ===============================================================================
``op.<digest>``              a document; its revision is the message's sequence in the stream
``open.<digest>``            it may be in flight or abandoned; the value is an instant before which it is not due
``parked.<digest>``          it may be parked
``outbox.<digest>``          it may have messages to send; the value is an instant before which none is due
``auditing.<digest>``        it may have lines that the audit does not have
``part.<digest>.<token>.<n>`` what does not fit into the document; see ``parts.py``
``clock``                    is written to learn the server's time
``meta``                     what the store keeps for ever
============================ ===============================================================================

A bucket is a stream ``KV_<bucket>`` that keeps the last message of each subject ``$KV.<bucket>.<key>``, as in every
client of NATS. Ours permits that single messages are deleted, by their sequence: so nothing is left of what is gone.
The audit's stream has nothing else in it, so that its sequence numbers the lines.
"""

from __future__ import annotations

import secrets
from typing import Any, Final, TypeVar

import msgspec
from nats.aio.msg import Msg

from retrysafe.errors import ConfigurationError, SchemaMismatch, StoreCorrupt, StoreError, StoreUnavailable
from retrysafe.stores.base import Meta
from retrysafe.stores.nats.wire import Ack, ApiError, Wire, ack_of

T = TypeVar("T")

API: Final = "$JS.API"
EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
FACTS: Final = "Retrysafe-Facts"
DROP_AFTER: Final = "Nats-TTL"

SCHEMA_VERSION = 1

_NOT_FOUND = 404
_STREAM_NOT_FOUND = 10059
_STREAM_NAME_IN_USE = 10058
_MESSAGE_NOT_FOUND = frozenset({10037, 10057, 10043})
_WRONG_SEQUENCE = frozenset({10071, 10164})
# Since 2.11 a message may have a time to live of its own.
_DROPS_SINCE = (2, 11)
_DROPS = "allow_msg_ttl"
_MARKS = (b"KV-Operation", b"Nats-Marker-Reason")


class Stored(msgspec.Struct, frozen=True):
    """A message of a stream, as it is read by its subject."""

    subject: str
    seq: int
    time: str
    body: bytes = msgspec.field(name="data", default=b"")
    hdrs: bytes = b""

    @property
    def is_mark(self) -> bool:
        """Tell whether it only says that something was deleted, by a time to live or by another client."""
        return any(mark in self.hdrs for mark in _MARKS)

    def header(self, name: str) -> str | None:
        """Return a header."""
        for line in self.hdrs.decode("latin-1").split("\r\n"):
            key, colon, value = line.partition(":")
            if colon and key == name:
                return value.strip()
        return None


class _Got(msgspec.Struct, frozen=True):
    message: Stored | None = None
    error: ApiError | None = None


class _Stream(msgspec.Struct, frozen=True):
    config: dict[str, Any] = {}
    state: dict[str, Any] = {}
    error: ApiError | None = None


class _Meta(msgspec.Struct, frozen=True, array_like=True):
    version: int
    pepper: bytes
    fingerprint_secret: bytes


_got = msgspec.json.Decoder(_Got)
_streams = msgspec.json.Decoder(_Stream)
_metas = msgspec.msgpack.Decoder(_Meta)


class Bucket:
    """Subjects and questions of one bucket.

    Args:
        name: of the bucket.
        replicas: how many servers keep it.
    """

    def __init__(self, name: str, replicas: int) -> None:
        self.name: Final = name
        self.stream: Final = f"KV_{name}"
        self.audit_stream: Final = f"KV_{name}_audit"
        self._replicas = replicas

    def subject(self, *parts: str) -> str:
        """Return the subject of a key."""
        return f"$KV.{self.name}.{'.'.join(parts)}"

    def audit_subject(self, *parts: str) -> str:
        """Return the subject of a line of the audit."""
        return f"$KV.{self.name}_audit.{'.'.join(parts)}"

    async def get(self, wire: Wire, subject: str) -> Stored | None:
        """Read the last message of a subject, from the stream's leader, which knows every write that was acknowledged.

        Raises:
            StoreUnavailable: nobody can tell.
        """
        return self.got(await wire.ask(*self.getting(subject)))

    def getting(self, subject: str) -> tuple[str, bytes]:
        """Return the question for the last message of a subject."""
        return f"{API}.STREAM.MSG.GET.{self.stream}", msgspec.json.encode({"last_by_subj": subject})

    @staticmethod
    def got(message: Msg) -> Stored | None:
        """Decode the answer to it."""
        answer = _decode(_got, message)
        if answer.error is None:
            return answer.message
        if answer.error.err_code in _MESSAGE_NOT_FOUND:
            return None
        raise refused(answer.error)

    def deleting(self, seq: int) -> tuple[str, bytes]:
        """Return the question that deletes one message, unless it was replaced meanwhile."""
        return f"{API}.STREAM.MSG.DELETE.{self.stream}", msgspec.json.encode({"seq": seq, "no_erase": True})

    async def bounds(self, wire: Wire, stream: str) -> tuple[int, int]:
        """Return the first and the last sequence of a stream; the last is less than the first in an empty one."""
        answer = await self._info(wire, stream)
        if answer.error is not None:
            raise refused(answer.error)
        return int(answer.state["first_seq"]), int(answer.state["last_seq"])

    async def is_made(self, wire: Wire) -> bool:
        """Tell whether one of the two buckets is there."""
        for stream in (self.stream, self.audit_stream):
            answer = await self._info(wire, stream)
            if answer.error is None:
                return True
            if answer.error.err_code != _STREAM_NOT_FOUND:
                raise refused(answer.error)
        return False

    async def prepare(self, wire: Wire) -> tuple[Meta, bool]:
        """Make the buckets where they are missing.

        Returns:
            What the store keeps for ever, and whether the server can drop a message by itself.

        Raises:
            ConfigurationError: a bucket is there, but not one as we need it.
            SchemaMismatch: a newer version wrote it.
            StoreUnavailable: the server can't tell, or has too little room.
        """
        more = {_DROPS: True} if version_of(wire) >= _DROPS_SINCE else {}
        # A bucket that an older server made may not have it.
        drops = bool((await self._make(wire, self.stream, self.subject(">"), more)).get(_DROPS))
        await self._make(wire, self.audit_stream, self.audit_subject(">"), {})
        return await self._meta(wire), drops

    async def _info(self, wire: Wire, stream: str) -> _Stream:
        return _decode(_streams, await wire.ask(f"{API}.STREAM.INFO.{stream}"))

    async def _make(self, wire: Wire, stream: str, subject: str, more: dict[str, Any]) -> dict[str, Any]:
        answer = await self._info(wire, stream)
        if answer.error is not None and answer.error.err_code == _STREAM_NOT_FOUND:
            config = {
                "name": stream,
                "subjects": [subject],
                "storage": "file",
                "num_replicas": self._replicas,
                "max_msgs_per_subject": 1,
                "discard": "new",
                "allow_direct": False,
                "deny_delete": False,
                **more,
            }
            answer = _decode(_streams, await wire.ask(f"{API}.STREAM.CREATE.{stream}", msgspec.json.encode(config)))
            if answer.error is not None and answer.error.err_code == _STREAM_NAME_IN_USE:
                # Another process was faster.
                answer = await self._info(wire, stream)
        if answer.error is not None:
            raise refused(answer.error)
        self._check(stream, answer.config)
        return answer.config

    def _check(self, stream: str, config: dict[str, Any]) -> None:
        problems: list[str] = []
        if config.get("max_msgs_per_subject") != 1:
            problems.append("has a history: make it with max_msgs_per_subject 1")
        if config.get("deny_delete"):
            problems.append("does not permit to delete a message: make it with deny_delete off")
        if config.get("max_age"):
            problems.append("forgets by age, open operations too: make it without max_age")
        full = [name for name in ("max_msgs", "max_bytes") if int(config.get(name) or -1) > 0]
        if full and config.get("discard") != "new":
            problems.append(f"drops its oldest message, of an open operation too, at {' or '.join(full)}: discard new")
        if config.get("retention", "limits") != "limits":
            problems.append("drops what somebody has read: make it with retention limits")
        if config.get("storage") != "file":
            problems.append("is not on disk: make it with storage file")
        if int(config.get("num_replicas", 1)) < self._replicas:
            problems.append(f"has fewer than {self._replicas} replicas: add some, or say replicas= as it is")
        if problems:
            raise ConfigurationError([f"the stream {stream} {problem}" for problem in problems])

    async def _meta(self, wire: Wire) -> Meta:
        subject = self.subject("meta")
        made = _Meta(SCHEMA_VERSION, secrets.token_bytes(32), secrets.token_bytes(32))
        found = await self.get(wire, subject)
        if found is None:
            ack = ack_of(await wire.ask(subject, msgspec.msgpack.encode(made), {EXPECTED: "0"}))
            if ack.error is None:
                return Meta(made.pepper, made.fingerprint_secret, made.version)
            if not is_wrong_sequence(ack):
                raise refused(ack.error)
            # Another process was faster.
            found = await self.get(wire, subject)
        if found is None:
            raise StoreUnavailable("NATS: what another process has just written is not there yet")
        try:
            meta = _metas.decode(found.body)
        except msgspec.DecodeError as error:
            raise StoreCorrupt(f"NATS: the key meta of the bucket {self.name} is damaged: {error}") from error
        if meta.version > SCHEMA_VERSION:
            raise SchemaMismatch(meta.version, SCHEMA_VERSION)
        return Meta(meta.pepper, meta.fingerprint_secret, meta.version)


def version_of(wire: Wire) -> tuple[int, int]:
    """Return the server's version."""
    version = wire.client.connected_server_version
    return version.major, version.minor


def is_wrong_sequence(ack: Ack) -> bool:
    """Tell whether a write was refused because somebody else has written there."""
    return ack.error is not None and ack.error.err_code in _WRONG_SEQUENCE


def refused(error: ApiError) -> StoreError:
    """Say what JetStream's refusal means: it may pass, but for what a person must permit or make."""
    return StoreUnavailable(f"NATS: {error.description or 'JetStream refused'} ({error.err_code or error.code})")


def _decode(decoder: msgspec.json.Decoder[T], message: Msg) -> T:
    try:
        return decoder.decode(message.data)
    except msgspec.DecodeError as error:
        raise StoreUnavailable(f"NATS: an answer can't be read: {error}") from error
