"""Servers that take turns under load: guarded ones, and between them and around them an unguarded one.

A round visits the unguarded server first and last, and the guarded ones between, so that whatever else the machine does
meanwhile slows all of them. What counts is the median over rounds of the ratio within the round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bench.visitor import Server, Slice, Visitor

UNGUARDED = "none"


@dataclass(slots=True)
class Row:
    """One line of a table, with what each round measured.

    Attributes:
        app: which application.
        connections: how many at once.
        guard: the store, or a peer's name, or ``none``.
        kind: ``fresh``, ``replay`` or ``conflict``.
        slices: one for each round; the unguarded application has two.
        ratios: its rate by the unguarded one's of the same round.
        cpu_ratios: the unguarded one's server CPU per request by its own.
        added: how much longer half of its answers took than half of the unguarded one's, in milliseconds.
    """

    app: str
    connections: int
    guard: str
    kind: str
    slices: list[Slice] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    cpu_ratios: list[float] = field(default_factory=list)
    added: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return medians as plain data."""
        return {
            "app": self.app,
            "connections": self.connections,
            "guard": self.guard,
            "kind": self.kind,
            "rounds": len(self.ratios),
            "answers": sum(int(piece.answers) for piece in self.slices),
            "requests_per_second": median(piece.rate for piece in self.slices),
            "ratio": median(self.ratios),
            "ratio_low": min(self.ratios),
            "ratio_high": max(self.ratios),
            "cpu_ratio": median(self.cpu_ratios),
            "p50_ms": median(piece.p50_ms for piece in self.slices),
            "p99_ms": median(piece.p99_ms for piece in self.slices),
            "added_ms": median(self.added),
            "cpu_us": median(piece.cpu_us for piece in self.slices),
        }

    def note(self, piece: Slice, base: Slice) -> None:
        """Add what one round measured."""
        self.slices.append(piece)
        self.ratios.append(piece.rate / base.rate)
        # The clock of processor time may stand still during a short slice.
        self.cpu_ratios.append(base.cpu_us / piece.cpu_us if piece.cpu_us else 1.0)
        self.added.append(piece.p50_ms - base.p50_ms)


class Contest:
    """One application, unguarded and guarded.

    Args:
        app: which.
        unguarded: its server without a guard.
        guarded: its servers with one.
        visitor: sends the load.
    """

    def __init__(self, app: str, unguarded: Server, guarded: Sequence[Server], visitor: Visitor) -> None:
        self._app = app
        self._unguarded = unguarded
        self._guarded = guarded
        self._visitor = visitor
        self._rows: dict[tuple[int, str, str], Row] = {}

    @property
    def rows(self) -> list[Row]:
        return list(self._rows.values())

    def warm_up(self, connections: int) -> None:
        """Visit everybody once, unmeasured: first requests connect, and compile."""
        for server in (self._unguarded, *self._guarded):
            self._visitor.fresh(server, connections)
            if server.faults is not None:
                server.faults.clear()

    def round(self, number: int, connections: int, kinds: Sequence[str]) -> None:
        """Visit the unguarded server, each guarded one, and the unguarded one again.

        Args:
            number: of the round; each begins with another server, so that none profits from its neighbours.
            connections: how many at once.
            kinds: which, besides ``fresh``.
        """
        first = self._visitor.fresh(self._unguarded, connections)
        seen: dict[tuple[str, str], Slice] = {}
        turn = number % len(self._guarded)
        for server in (*self._guarded[turn:], *self._guarded[:turn]):
            seen[server.name, "fresh"] = self._visitor.fresh(server, connections)
            if "replay" in kinds:
                seen[server.name, "replay"] = self._visitor.replay(server, connections)
            if "conflict" in kinds:
                seen[server.name, "conflict"] = self._visitor.conflict(server, connections)
        last = self._visitor.fresh(self._unguarded, connections)
        base = Slice(*((one + other) / 2 for one, other in zip(first, last, strict=True)))
        for piece in (first, last):
            self._row(connections, UNGUARDED, "fresh").slices.append(piece)
        plain = self._row(connections, UNGUARDED, "fresh")
        plain.ratios.append(1.0)
        plain.cpu_ratios.append(1.0)
        plain.added.append(0.0)
        for server in self._guarded:
            for kind in ("fresh", *kinds):
                self._row(connections, server.name, kind).note(seen[server.name, kind], base)

    def _row(self, connections: int, guard: str, kind: str) -> Row:
        return self._rows.setdefault((connections, guard, kind), Row(self._app, connections, guard, kind))
