"""What a run of the contract found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Broken:
    """A promise that a store does not keep.

    Attributes:
        promise: in words, with the case in brackets where it has several.
        rules: ids of the rules that it is about.
        faces: through which of the store's faces.
        summary: how it was seen, on one line.
    """

    promise: str
    rules: Sequence[str]
    faces: Sequence[str]
    summary: str


@dataclass(frozen=True, slots=True)
class Findings:
    """What a run of the contract found.

    Attributes:
        broken: promises that are not kept, in the contract's order.
        kept: how many promises are, through every face that the store has.
        faces: through which faces they were checked.
        stopped: why the run ended early; None when every promise was checked.
        seconds: how long it took.
    """

    broken: Sequence[Broken]
    kept: int
    faces: Sequence[str]
    stopped: str | None
    seconds: float

    @property
    def promises(self) -> int:
        """How many promises were checked."""
        return len(self.broken) + self.kept

    @property
    def ok(self) -> bool:
        """Whether every promise was checked and is kept."""
        return not self.broken and self.stopped is None

    def document(self) -> dict[str, Any]:
        """Return it for programs."""
        return {"ok": self.ok, **asdict(self)}
