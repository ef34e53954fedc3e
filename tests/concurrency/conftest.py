"""The towns of the crash tests, for crowds of clients."""

from tests.crash.conftest import pytest_runtest_makereport, town

__all__ = ["pytest_runtest_makereport", "town"]
