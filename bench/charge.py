"""The charge that every application under load makes. Standard library only: peers' environments import it too.

The request is about 100 bytes of JSON and the response about 1 KB. Each charge counts itself, so that a run can tell
whether every key had exactly one effect, and its response carries that number, so that a replay can be recognised.
"""

from __future__ import annotations

from random import Random
from string import ascii_lowercase
from threading import Event
from typing import Any

PATH = "/charges"
_LONGEST_HOLD_SECONDS = 30.0


def _receipt(length: int) -> str:
    """Return text that compresses about as well as prose does: words from a small vocabulary, the same each time."""
    chance = Random(7)
    words = ["".join(chance.choices(ascii_lowercase, k=chance.randint(2, 9))) for _ in range(150)]
    return " ".join(chance.choices(words, k=length))[:length]


_RECEIPT = _receipt(880)


class Effects:
    """Counts what was really done, and can keep one charge in flight for as long as others meet its key."""

    def __init__(self) -> None:
        self.count = 0
        self._begun, self._may_end = Event(), Event()

    def charge(self, amount: int, currency: str) -> dict[str, Any]:
        """Do the thing that must not happen twice."""
        self.count += 1
        return {
            "id": f"ch_{self.count:012d}",
            "object": "charge",
            "amount": amount,
            "currency": currency,
            "status": "succeeded",
            "receipt": _RECEIPT,
        }

    def hold(self) -> None:
        """Stay in the middle of an operation; the amount 0 asks for it."""
        self._may_end.clear()
        self._begun.set()
        self._may_end.wait(_LONGEST_HOLD_SECONDS)
        self._begun.clear()

    def until_held(self) -> None:
        """Wait until an operation is in the middle."""
        self._begun.wait(_LONGEST_HOLD_SECONDS)

    def let_go(self) -> None:
        """Let it end."""
        self._may_end.set()
