"""A town for each test that kills processes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.crash.processes import Town

_TOWNS = pytest.StashKey[list[Town]]()


@pytest.fixture
def town(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Town]]:
    """Found towns; whatever still runs in them is ended with the test."""
    towns = request.node.stash.setdefault(_TOWNS, [])
    with ExitStack() as stack:

        def found(**settings: Any) -> Town:
            made = stack.enter_context(Town(tmp_path / f"town-{len(towns)}", **settings))
            towns.append(made)
            return made

        yield found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the servers of a failed test wrote."""
    report = yield
    if report.failed:
        for town in item.stash.get(_TOWNS, []):
            for log in sorted(town.directory.glob("log-*")):
                report.sections.append((str(log), log.read_text(errors="replace")[-8_000:]))
    return report
