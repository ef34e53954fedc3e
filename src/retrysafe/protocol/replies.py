"""What a flow is answered, by a store, a surface or the application's other code; and what it answers in the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from retrysafe.protocol.model import Final, NoEffect

if TYPE_CHECKING:
    from retrysafe.protocol import model

# Answers to writes. A refused write is a value, not an exception (C4).


class Written(msgspec.Struct, frozen=True, gc=False):
    """The write is durable."""


class Superseded(msgspec.Struct, frozen=True, gc=False):
    """The write was refused: the checkpoint has another fence, or is in a state that this write may not leave."""


Receipt = Written | Superseded


# Answers of the surface.


class Returned(msgspec.Struct, frozen=True, gc=False):
    """The operation returned a whole response.

    Attributes:
        response: what the first client gets, unchanged.
        outcome: what a checkpoint would keep of it (S2, S4); its body is None when it may not be kept (S5).
    """

    response: model.Response
    outcome: model.Outcome


class Began(msgspec.Struct, frozen=True, gc=False):
    """The operation begins to stream a response; nothing was sent yet.

    Attributes:
        outcome: status and headers that a checkpoint would keep; its body is None.
    """

    outcome: model.Outcome


class Raised(msgspec.Struct, frozen=True):
    """The operation raised.

    Attributes:
        error: what it raised; never a ``BaseException`` beyond ``Exception``: those count as a crash (C7).
        failure: the response to it, and what a checkpoint would keep of that: for ``Final`` the author's own, for
            others one that tells a client that the operation failed.
    """

    error: Exception
    failure: Returned

    @property
    def undeclared(self) -> bool:
        """Tell whether the author did not say what the exception means."""
        return not isinstance(self.error, NoEffect | Final)


class Ended(msgspec.Struct, frozen=True):
    """The stream was forwarded to its end, or failed on the way; what has left is not sent again.

    Attributes:
        error: what the operation raised after its first byte had left, or None.
    """

    error: Exception | None = None


class Cut(msgspec.Struct, frozen=True):
    """The operation's code was ended by its own step (``Halted``); the trail says why."""


Reply = Returned | Began | Raised | Cut


# Answers of the application's code that is not the operation itself.


class Gave(msgspec.Struct, frozen=True):
    """A step, a probe or an undo returned.

    Attributes:
        value: what it returned, encoded.
    """

    value: bytes


class Refused(msgspec.Struct, frozen=True):
    """A step was refused for good and had no effect.

    Attributes:
        value: the response to give for it, encoded; None when there is none.
    """

    value: bytes | None


class Failed(msgspec.Struct, frozen=True):
    """It raised; whether there was an effect is not known.

    Attributes:
        error: what it raised.
    """

    error: Exception


class NotHappened(msgspec.Struct, frozen=True):
    """A probe found out that the step did not happen."""


class NotKnown(msgspec.Struct, frozen=True):
    """A probe could not find out."""


class Conflicted(msgspec.Struct, frozen=True):
    """The database rolled a transaction back because it met another one; running it again may succeed."""


# What a flow returns.


class Fresh(msgspec.Struct, frozen=True, gc=False):
    """Send the operation's own response.

    Attributes:
        response: the response, unchanged.
        stored: False when it could not be made durable yet and the response is true all the same (D2).
        protected: False when the store was down and the operation is declared ``fail_open`` (D1).
    """

    response: model.Response
    stored: bool = True
    protected: bool = True


class Replayed(msgspec.Struct, frozen=True, gc=False):
    """Send the recorded outcome again (S2, S7)."""

    operation_id: str
    response: model.Response


class Streamed(msgspec.Struct, frozen=True, gc=False):
    """The response was forwarded; there is nothing left to send."""


class Reraise(msgspec.Struct, frozen=True):
    """Raise the operation's own exception into the framework; the key is free again."""

    error: Exception


Answer = Fresh | Replayed | Streamed | Reraise
