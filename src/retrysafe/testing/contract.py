"""The contract of a store as tests: inherit it, give it a store, and every promise is checked through both faces.

::

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self, clock: ManualClock) -> MyStore:
            return MyStore(clock=clock)

What a clock that is moved by hand cannot show is in :class:`OwnClockContract`: whether the store's own clock ticks.

It needs pytest. Each test's name is the promise, and its docstring names the rule. A store with one face, sync or
async, is checked through that one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import pytest

from retrysafe.stores.base import Capability
from retrysafe.stores.urls import AnyStore
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.runner import Face, Runner

# Before they are imported: it makes a broken promise show its values.
pytest.register_assert_rewrite("retrysafe.testing.promises")

from retrysafe.testing.promises.claims import ClaimPromises  # noqa: E402
from retrysafe.testing.promises.operator import OperatorPromises  # noqa: E402
from retrysafe.testing.promises.outbox import OutboxPromises  # noqa: E402
from retrysafe.testing.promises.recovery import RecoveryPromises  # noqa: E402
from retrysafe.testing.promises.steps import StepPromises  # noqa: E402
from retrysafe.testing.promises.taking import TakingPromises  # noqa: E402
from retrysafe.testing.promises.ticking import TickingPromises  # noqa: E402
from retrysafe.testing.promises.undoing import UndoPromises  # noqa: E402
from retrysafe.testing.promises.upkeep import UpkeepPromises  # noqa: E402
from retrysafe.testing.promises.writes import WritePromises  # noqa: E402

_NEEDED: dict[Face, Capability] = {"sync": Capability.SYNC, "async": Capability.ASYNC}


class _ThroughEachFace:
    """Runs every promise through each face of the fixture ``store``."""

    @pytest.fixture(params=get_args(Face))
    def runner(self, request: pytest.FixtureRequest, store: AnyStore) -> Iterator[Runner]:
        """Run verbs through each face of the store in turn; it is closed at the end."""
        face: Face = request.param
        if _NEEDED[face] not in store.traits.capabilities:
            pytest.skip(f"this store has no {face} face")
        runner = Runner(store, face)
        runner.open()
        yield runner
        runner.close()


class StoreContract(
    _ThroughEachFace,
    ClaimPromises,
    WritePromises,
    StepPromises,
    UndoPromises,
    OutboxPromises,
    RecoveryPromises,
    TakingPromises,
    OperatorPromises,
    UpkeepPromises,
):
    """Every promise of a store. A subclass brings the fixture ``store``: empty, and on the fixture ``clock``."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        """Return the wall clock that the store is given."""
        return ManualClock()


class OwnClockContract(_ThroughEachFace, TickingPromises):
    """Every promise about the store's own clock. A subclass brings the fixture ``store``: empty, and as it is used."""
