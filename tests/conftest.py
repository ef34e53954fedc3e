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


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Note a line for the end of the run: a trend to look at, not a promise to test."""
    # Properties of a test reach the process that prints, whichever process has run it.
    noted = request.node.user_properties

    def note(line: str) -> None:
        noted.append(("figure", line))

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    """Print the figures that tests noted."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    figures = [line for report in reports for name, line in report.user_properties if name == "figure"]
    if figures:
        terminalreporter.section("figures")
        for line in figures:
            terminalreporter.write_line(line)
