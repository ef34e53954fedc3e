"""The table on the page about the model: ``python -m tests.model.table`` writes it, a test compares it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tests.model.cases import CASES, Case, in_words, without
from tests.model.world import Move, Operation

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "model.md"
_BLOCK = re.compile(r"(<!-- made from the model: protections -->\n).*?(<!-- end -->)", re.DOTALL)


def table() -> str:
    """Write what breaks without each protection, and the shortest way there, as Markdown."""
    head = ("Rule", "Without it", "Breaks", "The shortest way to the first of them")
    lines = [head, ["---"] * len(head), *(_line(case) for case in CASES)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def filled(page: str) -> str:
    """Return the text of a page with the table as the model has it now."""
    return _BLOCK.sub(lambda match: f"{match[1]}\n{table()}\n\n{match[2]}", page)


def _line(case: Case) -> Sequence[str]:
    way = without(case).broken[case.breaks[0]]
    first, *others = case.breaks
    broken = ", ".join([f"**{first}**", *others])
    return case.rule, case.without, broken, f"{_told(way, case.operation)} ({len(way)} moves)"


def _told(way: Sequence[Move], operation: Operation) -> str:
    """Tell what happens, and name a process once for what it does without interruption."""
    told: list[str] = []
    before: int | None = None
    for move in way:
        if move.process is not None and move.process == before:
            told[-1] += ", " + in_words(move._replace(process=None), operation)
        else:
            told.append(in_words(move, operation))
        before = move.process
    return "; ".join(told)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
