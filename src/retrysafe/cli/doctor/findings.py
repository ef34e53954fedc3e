"""What a check found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import click

from retrysafe.cli.words import counted, printable


class Level(StrEnum):
    """How bad it is; the last two are findings and make the exit code 1."""

    OK = "ok"
    INFO = "info"
    WARN = "warn"
    FAIL = "fail"


_COLOURS = {Level.OK: "green", Level.INFO: "cyan", Level.WARN: "yellow", Level.FAIL: "red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        level: how bad it is.
        check: what was looked at, in a word or two.
        text: what was found.
        fix: what to do; None when there is nothing to do.
    """

    level: Level
    check: str
    text: str
    fix: str | None = None


def is_bad(finding: Finding) -> bool:
    """Tell whether somebody should act."""
    return finding.level in {Level.WARN, Level.FAIL}


def lines(findings: Sequence[Finding]) -> list[str]:
    """Write a report."""
    width = max((len(finding.check) for finding in findings), default=0)
    written: list[str] = []
    for finding in findings:
        level = click.style(f"{finding.level:<4}", fg=_COLOURS[finding.level], bold=is_bad(finding))
        written.append(f"{level}  {finding.check:<{width}}  {printable(finding.text)}")
        if finding.fix is not None:
            written.append(f"{'':4}  {'':{width}}  = fix: {printable(finding.fix)}")
    bad = sum(map(is_bad, findings))
    return [*written, "", counted(bad, "finding") if bad else "all is well"]
