"""A store that somebody else wrote: good under one name, with a defect of its own under each other name.

It is built into a distribution of its own and installed; the tests never import it.
"""

import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, ClassVar

from retrysafe.errors import ConfigurationError
from retrysafe.protocol.effects import Receipt
from retrysafe.protocol.model import Claim
from retrysafe.stores.base import Capability, Purged, Traits
from retrysafe.stores.clock import HostClock
from retrysafe.stores.memory import MemoryStore
from retrysafe.stores.memory.verbs import MemoryVerbs
from retrysafe.stores.program import Program
from retrysafe.testing.asks import an_ask


class Deaf(MemoryVerbs):
    """Hears no fence: whoever records, wins."""

    def record(self, claim: Claim, outcome: bytes, **terms: Any) -> Program[Receipt]:
        met = yield from self.read(claim.digest)
        current = claim if met is None else met.claim(claim.lease_seconds)
        return (yield from super().record(current, outcome, **terms))


class Hoarder(MemoryVerbs):
    """Purges nothing."""

    def purge(self, limit: int) -> Program[Purged]:
        yield from ()
        return Purged(0, 0, more=False)


class Fixed(MemoryStore):
    """Cannot be put on another clock."""

    with_clock = None  # type: ignore[assignment]


class Shelf(MemoryStore):
    """A store of this process, the same for everybody who names it."""

    _places: ClassVar[dict[str, MemoryVerbs]] = {}
    _uses: ClassVar["count[int]"] = count()

    def __init__(self, name: str, clock: Callable[[], float] = time.time) -> None:
        super().__init__(clock=clock)
        kind = {"deaf": Deaf, "hoarder": Hoarder}.get(name, MemoryVerbs)
        verbs = self._places.setdefault(name, kind(HostClock(clock)))
        verbs._clock = HostClock(clock)
        self.verbs = verbs
        self._name = name
        self.traits = Traits("shelf", self.traits.clock, self.traits.durability, _faces(name))

    def with_clock(self, wall: Callable[[], float]) -> "Shelf":
        shelf = Shelf(self._name, wall)
        if self._name == "shared" and next(self._uses) == 3:
            shelf.run(partial(shelf.verbs.claim, an_ask("of-a-shop", namespace="shop")))
        return shelf


def _faces(name: str) -> frozenset[Capability]:
    sync = set[Capability]() if name in {"async", "hoarder"} else {Capability.SYNC}
    return frozenset({*sync, Capability.ASYNC, Capability.LIST_ABANDONED})


def from_url(url: str) -> MemoryStore:
    name = url.partition("://")[2]
    if name not in {"good", "async", "deaf", "hoarder", "fixed", "shared"}:
        raise ConfigurationError([f"there is no shelf {name!r}"])
    return Fixed() if name == "fixed" else Shelf(name)
