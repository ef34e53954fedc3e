"""What every test shares: how Hypothesis behaves, and figures that are printed but never asserted."""

import os
from collections.abc import Callable

import pytest
from hypothesis import settings

# A deadline would make a test depend on how busy the machine is. In CI examples are the same each time, so
# that a change is judged by what it changes; on a laptop each run looks somewhere new.
settings.register_profile("house", deadline=None, print_blob=True, derandomize="CI" in os.environ)
settings.load_profile("house")

pytest_plugins = ["tests.services.fixtures"]

_FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def figure(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Note a line for the end of the run: a trend to look at, not a promise to test."""
    return pytestconfig.stash.setdefault(_FIGURES, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    """Print the figures that tests noted."""
    figures = config.stash.get(_FIGURES, [])
    if figures:
        terminalreporter.section("figures")
        for line in figures:
            terminalreporter.write_line(line)
