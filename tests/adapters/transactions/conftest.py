"""Places by the name of their binding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.adapters.transactions.places import Place

Found = Callable[[str], Place]


@pytest.fixture
def found(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Found]:
    """Make a place, whose database is empty but for the store and two tables."""
    made: list[Place] = []

    def find(kind: str) -> Place:
        if "sqlite" in kind:
            url = f"sqlite:///{tmp_path}/shop.db"
        else:
            url = str(
                request.getfixturevalue("made_maria_database" if "mysql" in kind or "asyncmy" in kind else "database")
            )
        made.append(Place(kind, url))
        return made[-1]

    yield find
    for place in made:
        place.close()


@pytest.fixture
def place(request: pytest.FixtureRequest, found: Found) -> Place:
    return found(request.param)
