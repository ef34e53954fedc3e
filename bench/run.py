"""What every measurement of a run is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.plan import Plan
from bench.stores import Stores
from bench.visitor import Checks


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run.

    Attributes:
        plan: how much is measured.
        directory: for files, which are removed with the run.
        stores: which ones there are.
        tell: takes a line about what goes on.
        checks: whether what was timed was also right.
    """

    plan: Plan
    directory: Path
    stores: Stores
    tell: Callable[[str], None]
    checks: Checks = field(default_factory=Checks)
