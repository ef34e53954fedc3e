"""The contract on a store by its URL; ``retrysafe store conformance`` runs it with pytest, by this module's name.

Whoever runs it brings the fixtures ``store_url``, and ``scratch``: whether nobody misses what is in that store. It is
emptied before each promise, and the run ends where somebody else's operation is met. The store must be
:class:`~retrysafe.stores.urls.Clocked`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from retrysafe.errors import RetrySafeError
from retrysafe.stores.base import Capability
from retrysafe.stores.urls import AnyStore, Clocked, open_store
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.contract import OwnClockContract, StoreContract
from retrysafe.testing.emptying import InUse, empty
from retrysafe.testing.runner import Runner


@pytest.fixture(scope="session")
def run_clock() -> ManualClock:
    """Return one clock for the whole run: in a store that outlives a promise, it must not begin again."""
    return ManualClock(float(int(time.time())))


@pytest.fixture(scope="session", autouse=True)
def _left_empty(store_url: str, run_clock: ManualClock, *, scratch: bool) -> Iterator[None]:
    """Begin with nothing, and leave nothing of the last promise."""
    _emptied(store_url, run_clock, everything=scratch)
    yield
    _emptied(store_url, run_clock)


def _on(store_url: str, clock: ManualClock) -> AnyStore:
    store = open_store(store_url)
    if not isinstance(store, Clocked):
        raise TypeError("the store has no with_clock(wall), so days can't pass in it")
    return store.with_clock(clock)


def _emptied(store_url: str, clock: ManualClock, *, everything: bool = False) -> None:
    store = _on(store_url, clock)
    runner = Runner(store, "sync" if Capability.SYNC in store.traits.capabilities else "async")
    try:
        runner.open()
        empty(runner, clock, everything=everything)
    except InUse as found:
        pytest.exit(f"somebody else uses this store: {found}", returncode=pytest.ExitCode.TESTS_FAILED)
    except (AssertionError, RetrySafeError) as left:
        # Every promise needs an empty store: the next ones would all break for the same reason.
        pytest.exit(
            f"the store can't be emptied by its own verbs (S10): {left}", returncode=pytest.ExitCode.TESTS_FAILED
        )
    finally:
        runner.close()


# First: what comes afterwards may leave the clock of a store on one host years ahead.
class TestOwnClock(OwnClockContract):
    """What takes a second or two of real time."""

    @pytest.fixture
    def store(self, store_url: str, run_clock: ManualClock) -> AnyStore:
        """Return the store as it is, emptied."""
        _emptied(store_url, run_clock)
        return open_store(store_url)


class TestStore(StoreContract):
    """What the contract's own clock brings about."""

    @pytest.fixture
    def clock(self, run_clock: ManualClock) -> ManualClock:
        """Return the clock of the whole run instead of one for each promise."""
        return run_clock

    @pytest.fixture
    def store(self, store_url: str, clock: ManualClock) -> AnyStore:
        """Return the store on that clock, emptied."""
        _emptied(store_url, clock)
        return _on(store_url, clock)
