"""What the code of an operation has in hand, sync or async: its identity, and values that never change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from uuid import UUID

from retrysafe.errors import ConfigurationError
from retrysafe.protocol.fingerprint import child_key
from retrysafe.protocol.model import Message, Mode
from retrysafe.protocol.steps import Trail
from retrysafe.runtime.outgoing import outgoing
from retrysafe.runtime.values import encode_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from retrysafe.protocol.model import Claim
    from retrysafe.protocol.policy import Policy
    from retrysafe.runtime.engine import Engine
    from retrysafe.runtime.transactions import AsyncTransaction, Transaction


@dataclass(frozen=True, slots=True, eq=False)
class Attempt:
    """One execution under one claim, as the runtime has it.

    Attributes:
        engine: the process's.
        claim: the right to execute.
        policy: how the operation is guarded.
        trail: what is known of its steps; None in modes that have none.
        recovering: no client waits for it.
    """

    engine: Engine
    claim: Claim
    policy: Policy
    trail: Trail | None = None
    recovering: bool = False

    def trail_for(self, asked: str, *modes: Mode) -> Trail:
        """Return the trail.

        Raises:
            ConfigurationError: the operation's mode has nothing of the kind.
        """
        wanted = modes or (Mode.STEPS, Mode.TRANSACTION)
        if self.trail is None or self.claim.mode not in wanted:
            fitting = " or ".join(f"mode={str(mode)!r}" for mode in wanted)
            raise ConfigurationError(
                [f"op.{asked}() is for {fitting}; this operation is mode={str(self.claim.mode)!r}"]
            )
        return self.trail


class Operation:
    """The attempt that the calling code runs in.

    Attributes:
        id: UUIDv7, the same for every attempt; safe to log, to show and to send downstream.
        name: of the operation.
        attempt: counted from 1.
        fence: grows with each claim.
        recovering: True when no client waits for this attempt.
        version: of the code that the operation was first claimed with.
    """

    # What `current_operation()` gives has them, too; whether their answer is awaited depends on where it is called.
    step: Callable[..., Any]
    local: Callable[..., Any]

    def __init__(self, attempt: Attempt, transaction: Transaction | AsyncTransaction | None = None) -> None:
        """Describe an attempt; made by surfaces."""
        claim = attempt.claim
        self.id = claim.operation_id
        self.name = claim.name
        self.attempt = claim.attempt
        self.fence = claim.fence
        self.recovering = attempt.recovering
        self.version = claim.version
        self._attempt = attempt
        self._transaction = transaction

    @property
    def session(self) -> Any:  # noqa: ANN401 - what the guard's transactions give
        """What the operation writes with in mode ``transaction``: a session or a connection, in one open transaction.

        Raises:
            ConfigurationError: the mode has none.
        """
        self._attempt.trail_for("session", Mode.TRANSACTION)
        return None if self._transaction is None else self._transaction.handle

    def here(self) -> Operation:
        """Return it for where the calling code runs."""
        return self

    def child_key(self, step: str, index: int = 0) -> str:
        """Derive the key for a call to another service: the same for every attempt (R4).

        It is made from the operation id, never from the client's key.

        Args:
            step: name of the call inside this operation, such as ``charge``.
            index: which one, for calls made in a loop.
        """
        return child_key(self.id, step, index)

    def now(self) -> datetime:
        """Return when the operation was first asked for, in UTC: the same in every attempt.

        By the clock of the host that was asked, in milliseconds.
        """
        milliseconds = int(self.id.replace("-", "")[:12], 16)
        return datetime.fromtimestamp(milliseconds / 1000, UTC)

    def uuid(self, name: str, index: int = 0) -> UUID:
        """Return a UUID that is the same in every attempt, and that nobody can guess from the operation id."""
        return UUID(bytes=self._derived("uuid", name, index)[:16], version=4)

    def random(self, name: str, index: int = 0) -> float:
        """Return a number from 0 up to 1 that is the same in every attempt."""
        return int.from_bytes(self._derived("random", name, index)[:8], "big") / 2**64

    def send(self, topic: str, content: object, headers: Mapping[str, str] | None = None) -> None:
        """Tell others, if and only if the operation's commit becomes durable: through the outbox (R12).

        It leaves at least once, with the id ``operation:n``, by which a consumer drops repeats.

        Args:
            topic: where to.
            content: bytes as they are; anything else as JSON.
            headers: more of it.

        Raises:
            ConfigurationError: the mode has no outbox.
        """
        apart = outgoing.get()
        messages = self._attempt.trail_for("send").messages if apart is None else apart
        if isinstance(messages, tuple):
            raise ConfigurationError(["op.send inside an external step would be lost: send before it, or after it"])
        pairs = tuple((name.encode(), value.encode()) for name, value in (headers or {}).items())
        payload = content if isinstance(content, bytes) else encode_value(content)
        messages.append(Message(topic, payload, pairs))

    def pivot(self) -> None:
        """Pass the point after which the operation only goes forward: from here on it is never undone (R7).

        It becomes durable with the next step that begins, before that step's call.
        """
        self._attempt.trail_for("pivot", Mode.STEPS).pivot_asked = True

    def __eq__(self, other: object) -> bool:
        """Compare what identifies the attempt."""
        if not isinstance(other, Operation):
            return NotImplemented
        return (self.id, self.attempt, self.fence) == (other.id, other.attempt, other.fence)

    def __hash__(self) -> int:
        """Hash what equality compares."""
        return hash((self.id, self.attempt, self.fence))

    def __repr__(self) -> str:
        """Show what is safe to log."""
        return f"<{type(self).__name__} {self.id}, attempt {self.attempt}, fence {self.fence}>"

    def _derived(self, *parts: object) -> bytes:
        return blake2b(encode_value(("retrysafe", self.id, *parts)), key=self._attempt.engine.pepper[:64]).digest()
