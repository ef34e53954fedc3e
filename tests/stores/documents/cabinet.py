"""Documents in a dict: the least that a store must be able to do, and as careless as it may be."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from threading import Lock
from typing import Any, TypeVar

from retrysafe.stores.base import Capability, Clock, Durability, Meta, Traits, Verbs
from retrysafe.stores.clock import HostClock
from retrysafe.stores.documents.port import INDEXES, Change, Facts, Found, Index, Line, Loaded, Place, Shown
from retrysafe.stores.documents.statements import fetch
from retrysafe.stores.documents.verbs import DocumentVerbs
from retrysafe.stores.instants import HostInstants
from retrysafe.stores.program import Answer, Factory, Statement, run

T = TypeVar("T")


class Cabinet:
    """A port on dicts.

    Args:
        careless: never takes anything out of an index, and keeps the earliest instant that there ever was.
    """

    def __init__(self, *, careless: bool) -> None:
        self.careless = careless
        self.documents: dict[bytes, tuple[bytes, int, Facts]] = {}
        self.indexes: dict[Index, dict[bytes, float]] = {index: {} for index in INDEXES}
        self.audit: dict[str, tuple[int, str, bytes]] = {}
        self._revisions = count(1)

    def load(self, digests: Sequence[bytes]) -> Sequence[Loaded]:
        there = [digest for digest in digests if digest in self.documents]
        return [Loaded(digest, *self.documents[digest][:2]) for digest in there]

    def write(self, changes: Sequence[Change]) -> Sequence[Any]:
        assert len({change.digest for change in changes}) == len(changes), "each document once"
        return [self._write(change) for change in changes]

    def _write(self, change: Change) -> int | None:
        met = self.documents.get(change.digest)
        if (None if met is None else met[1]) != change.revision:
            return None
        assert change.before == (None if met is None else met[2]), "the facts of what is there"
        revision = next(self._revisions)
        if change.body is None or change.after is None:
            del self.documents[change.digest]
        else:
            self.documents[change.digest] = (change.body, revision, change.after)
        for index, entries in self.indexes.items():
            at = None if change.after is None else change.after.at(index)
            if at is not None:
                entries[change.digest] = min(at, entries.get(change.digest, at)) if self.careless else at
            elif not self.careless:
                entries.pop(change.digest, None)
        return revision

    def find(self, index: Index, by: float, after: Place | None, limit: int) -> Sequence[Found]:
        due = sorted((at, digest) for digest, at in self.indexes[index].items() if at <= by)
        return [Found(place[1], place) for place in due if after is None or place > after][:limit]

    def newest(self, after: Place | None, limit: int) -> Sequence[Shown]:
        ordered = sorted(self.documents.values(), key=lambda each: -each[2].number)
        there = [Shown(body, facts.number) for body, _, facts in ordered if after is None or facts.number < after]
        return there[:limit]

    def append(self, line_id: str, operation_id: str, body: bytes) -> None:
        self.audit.setdefault(line_id, (len(self.audit) + 1, operation_id, body))

    def lines(self, operation_id: str | None, limit: int) -> Sequence[Line]:
        ordered = sorted(self.audit.values(), reverse=True)
        return [Line(number, body) for number, of, body in ordered if operation_id in {None, of}][:limit]


class CabinetStore:
    """A store on a cabinet; several may share one, as processes do."""

    def __init__(self, cabinet: Cabinet, clock: Callable[[], float]) -> None:
        self.traits = Traits(
            name="cabinet",
            clock=Clock.HOST,
            durability=Durability.PROCESS,
            capabilities=frozenset({Capability.SYNC, Capability.ASYNC, Capability.LIST_ABANDONED}),
        )
        self.verbs: Verbs = DocumentVerbs(HostInstants(HostClock(clock)))
        self.fetch: Callable[[Statement], Answer] = self._fetch
        self._cabinet = cabinet
        self._lock = Lock()
        self._meta = Meta(secrets.token_bytes(32), secrets.token_bytes(32), 1)

    def _fetch(self, statement: Statement) -> Answer:
        with self._lock:
            return fetch(self._cabinet, statement)

    def open(self) -> Meta:
        return self._meta

    def run(self, program: Factory[T]) -> T:
        return run(program(), self.fetch)

    def query(self, program: Factory[T]) -> T:
        return self.run(program)

    def close(self) -> None:
        pass

    async def aopen(self) -> Meta:
        return self._meta

    async def arun(self, program: Factory[T]) -> T:
        return self.run(program)

    async def aquery(self, program: Factory[T]) -> T:
        return self.run(program)

    async def aclose(self) -> None:
        pass


careful = partial(Cabinet, careless=False)
careless = partial(Cabinet, careless=True)
