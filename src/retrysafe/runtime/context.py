"""What the code of an operation can ask about the attempt it runs in."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token

    from retrysafe.runtime.operations import Operation


@dataclass(slots=True, weakref_slot=True, eq=False)
class Presence:
    """Lives as long as anything runs inside the operation: its task, and threads that were given a copy of its context.

    A claim is handed over only after its presence is gone (C7).
    """

    make: Callable[[], Operation | None]
    """Makes what the code has in hand; most code never asks for it."""
    digest: bytes = field(repr=False)
    concluded: bool = False
    """The operation has its outcome; what still runs inside it, such as background work, is outside it."""
    made: Operation | None = None

    def operation(self) -> Operation | None:
        """Return the operation, the same each time; None when it runs unprotected (D1)."""
        if self.made is None:
            self.made = self.make()
        return self.made


_presence: ContextVar[Presence | None] = ContextVar("retrysafe_operation", default=None)


def current_operation() -> Operation | None:
    """Return the operation that the calling code runs in, or None outside of one or when it runs unprotected (D1).

    On an event loop its steps are awaited, in a thread they are not.

    Works in the operation's task and in threads that were started with a copy of its context, as
    ``asyncio.to_thread`` and web frameworks do.
    """
    presence = _presence.get()
    operation = None if presence is None else presence.operation()
    return None if operation is None else operation.here()


def joined(digest: bytes) -> bool:
    """Tell whether the calling code already runs inside the operation with this identity (K9)."""
    presence = _presence.get()
    return presence is not None and presence.digest == digest and not presence.concluded


def conclude() -> None:
    """Note that the operation has its outcome: the same request, made from inside it, is answered like any other."""
    presence = _presence.get()
    if presence is not None:
        presence.concluded = True


def enter(make: Callable[[], Operation | None], digest: bytes) -> tuple[Token[Presence | None], ref[Presence]]:
    """Begin to run as part of an operation.

    Args:
        make: makes what the operation's code has in hand, when it asks for it.
        digest: of the operation's identity.

    Returns:
        A token for :func:`leave`, and a weak reference that is dead once nothing runs inside the operation any more.
    """
    presence = Presence(make, digest)
    return _presence.set(presence), ref(presence)


def leave(token: Token[Presence | None]) -> None:
    """Stop running as part of an operation; copies of the context in other threads keep its presence alive."""
    _presence.reset(token)


def step_out() -> Presence | None:
    """Call out of the operation, such as into the server that sends its response; :func:`step_in` comes back.

    What is started out there belongs to somebody else. Servers start the next request of a connection inside ``send``,
    and a request that took itself for part of this operation would run unguarded (K9).
    """
    presence = _presence.get()
    if presence is not None:
        _presence.set(None)
    return presence


def step_in(presence: Presence | None) -> None:
    """Go on as part of the operation, after :func:`step_out`."""
    _presence.set(presence)
