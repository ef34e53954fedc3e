"""Where messages go that the running code sends: with the operation's outcome, or with a local step's memo (I11)."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retrysafe.protocol.model import Message

outgoing: ContextVar[list[Message] | tuple[()] | None] = ContextVar("retrysafe_outgoing", default=None)
"""A list of a local step's own; nothing inside an external step, whose messages a later attempt would not send; None is
the operation's list."""
