"""What tests of adapters in this process share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.adapters.guards import House


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.guard.close()
