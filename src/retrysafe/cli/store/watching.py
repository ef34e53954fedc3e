"""A plugin of pytest that tells the contract which store to check, and notes what became of each promise."""

from __future__ import annotations

import re
from collections import defaultdict
from types import FunctionType
from typing import Any, cast

import pytest

from retrysafe.cli.store.findings import Broken, Findings

_RULES = re.compile(r"[A-Z]\d+(?:, [A-Z]\d+)*(?=:)")
_WIDEST = 160


class Watch:
    """Watches one run.

    Args:
        store_url: names the store.
        scratch: whether what is in it may be lost.
    """

    def __init__(self, store_url: str, *, scratch: bool) -> None:
        self._store_url = store_url
        self._scratch = scratch
        self._promises: dict[str, tuple[str, tuple[str, ...], str]] = {}
        """By test: what is promised, by which rules, and through which face it is looked at."""
        self._outcomes: dict[str, dict[str, str]] = defaultdict(dict)
        """By promise and face: how it is broken, or nothing."""
        self._stopped: str | None = None

    @pytest.fixture(scope="session")
    def store_url(self) -> str:
        """Return which store to check."""
        return self._store_url

    @pytest.fixture(scope="session")
    def scratch(self) -> bool:
        """Tell whether what is in it may be lost."""
        return self._scratch

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Learn what is promised."""
        for item in items:
            if isinstance(item, pytest.Function):
                self._promises[item.nodeid] = _promise(item)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what became of a promise."""
        promise, _, face = self._promises[report.nodeid]
        if report.failed:
            self._outcomes[promise].setdefault(face, "")
            self._outcomes[promise][face] = self._outcomes[promise][face] or _summary(report)
        elif report.passed and report.when == "call":
            self._outcomes[promise].setdefault(face, "")

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note why the run ends here."""
        self._stopped = str(excinfo.value) or "interrupted"

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note that pytest itself failed."""
        self._stopped = f"{excinfo.typename}: {excinfo.value}"

    def findings(self, seconds: float) -> Findings:
        """Return what was found in a run of so many seconds."""
        rules = {promise: rules for promise, rules, _ in self._promises.values()}
        broken: list[Broken] = []
        for promise, outcomes in self._outcomes.items():
            if seen := {face: summary for face, summary in outcomes.items() if summary}:
                broken.append(Broken(promise, rules[promise], tuple(seen), next(iter(seen.values()))))
        faces = sorted({face for outcomes in self._outcomes.values() for face in outcomes}, reverse=True)
        return Findings(broken, len(self._outcomes) - len(broken), faces, self._stopped, seconds)


def _promise(item: pytest.Function) -> tuple[str, tuple[str, ...], str]:
    """Read what a test is about: its name is the promise, and its docstring begins with the rules."""
    # pytest has no types for what a test is made of.
    function: FunctionType = cast(Any, item).function
    face = str(item.callspec.params["runner"])
    case = "-".join(part for part in item.callspec.id.split("-") if part != face)
    words = re.sub(r" s\b", "’s", function.__name__.removeprefix("test_").replace("_", " "))
    rules = _RULES.match(function.__doc__ or "")
    return f"{words} [{case}]" if case else words, tuple(rules[0].split(", ")) if rules else (), face


def _summary(report: pytest.TestReport) -> str:
    """Return the first line of what went wrong."""
    crash = getattr(report.longrepr, "reprcrash", None)
    message = str(report.longrepr) if crash is None else crash.message
    line = message.strip().partition("\n")[0]
    return line if len(line) <= _WIDEST else f"{line[:_WIDEST]}…"
