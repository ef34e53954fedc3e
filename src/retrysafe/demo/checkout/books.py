"""A service's book: what is in effect, by key, and what must not come into effect any more.

It does what a service must do for a caller who may die at any moment: the same key is the same effect, and an undo that
comes before the call that it takes back leaves a tombstone, so that this call has no effect when it comes late (R7).
"""

from __future__ import annotations

import msgspec


class Effect(msgspec.Struct):
    """Something that happened.

    Attributes:
        order: which order it was for.
        amount: cents, or pieces.
        undone: whether it was taken back.
    """

    order: str
    amount: int
    undone: bool = False


class Page(msgspec.Struct):
    """What a book has to say at the end.

    Attributes:
        effects: everything that happened, by key.
        balance: cents taken, or pieces given, as they moved: what came minus what went back.
        calls: every call, looking up included.
        repeated: calls that changed nothing, because their key had been seen.
        undone: effects that were taken back.
        too_late: calls that had no effect, because they came after their undo.
    """

    effects: dict[str, Effect] = {}
    balance: int = 0
    calls: int = 0
    repeated: int = 0
    undone: int = 0
    too_late: int = 0


class Book:
    """The book of one kind of effect. Each method is atomic, because nothing in it waits."""

    def __init__(self) -> None:
        """Begin empty."""
        self.page = Page()
        self._tombstones: set[str] = set()

    def do(self, key: str, order: str, amount: int) -> bool:
        """Have an effect, once for each key; False when it was taken back before it came.

        Args:
            key: the call's.
            order: which order it is for.
            amount: cents, or pieces.
        """
        if key in self._tombstones:
            self.page.too_late += 1
            return False
        if key in self.page.effects:
            self.page.repeated += 1
            return True
        self.page.effects[key] = Effect(order, amount)
        self.page.balance += amount
        return True

    def undo(self, undoes: str) -> None:
        """Take the effect of a call back, now and for ever.

        Args:
            undoes: key of that call.
        """
        if undoes in self._tombstones:
            self.page.repeated += 1
            return
        self._tombstones.add(undoes)
        effect = self.page.effects.get(undoes)
        if effect is not None:
            effect.undone = True
            self.page.balance -= effect.amount
            self.page.undone += 1

    def has(self, key: str) -> bool:
        """Tell whether a call had its effect."""
        return key in self.page.effects
