"""The rig for tests of the runtime."""

from collections.abc import Iterator

import pytest

from tests.runtime.rig import Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.engine.close()
