"""What finds documents: there when it is needed, gone when it is not, mended when a process died in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import pytest

from retrysafe.errors import StoreUnavailable
from retrysafe.protocol.model import Message, Mode
from retrysafe.protocol.operator import Verb
from retrysafe.stores.base import Purged, Query
from retrysafe.stores.clock import HostClock
from retrysafe.stores.documents.verbs import DocumentVerbs
from retrysafe.stores.instants import HostInstants
from retrysafe.stores.nats import NatsStore, parts
from retrysafe.stores.nats import documents as port_module
from retrysafe.stores.nats.bucket import API, DROP_AFTER, EXPECTED
from retrysafe.stores.nats.documents import Documents
from retrysafe.stores.nats.walk import walk
from retrysafe.stores.nats.wire import Wire, ack_of
from retrysafe.testing.asks import DAY_SECONDS, an_ask, an_intervention
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.runner import Runner
from tests.services.service import Service
from tests.stores.postgres.tools import until

T = TypeVar("T")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def runner(store: NatsStore, clock: ManualClock) -> Runner:
    store.verbs = DocumentVerbs(HostInstants(HostClock(clock)))
    return Runner(store, "sync")


def on(store: NatsStore, act: Callable[[Wire], Awaitable[T]]) -> T:
    """Do something with a store's connection."""

    async def act_on() -> T:
        return await act(await store._wires.wire())

    return store._wires.portal.run(act_on())


def keys(store: NatsStore) -> list[str]:
    """Everything in the bucket but what every bucket has."""

    async def look(wire: Wire) -> list[str]:
        bucket = store._keeping.bucket
        found = [passed.subject async for passed in walk(wire, bucket.stream, bucket.subject(">"))]
        names = sorted(subject.removeprefix(bucket.subject("")) for subject in found)
        return [name for name in names if name not in {"meta", "clock"}]

    return on(store, look)


def headers(store: NatsStore, digest: bytes) -> dict[str, str]:
    async def look(wire: Wire) -> dict[str, str]:
        bucket = store._keeping.bucket
        subject = bucket.subject("op", digest.hex())
        return [passed.headers async for passed in walk(wire, bucket.stream, subject)][-1]

    return on(store, look)


def test_an_operation_leaves_its_document_and_nothing_else(store: NatsStore, runner: Runner) -> None:
    """S10: a pointer is there while it is needed."""
    claim = runner.claimed(an_ask())
    name = claim.digest.hex()
    assert keys(store) == [f"op.{name}", f"open.{name}"]
    runner.record(claim, messages=[Message("payments", b"paid")])
    until(lambda: keys(store) == [f"op.{name}", f"outbox.{name}"])
    runner.sent_messages(*runner.take_messages())
    until(lambda: keys(store) == [f"op.{name}"])


def test_a_parked_operation_and_its_audit(store: NatsStore, runner: Runner) -> None:
    """R10."""
    claim = runner.claimed(an_ask())
    name = claim.digest.hex()
    runner.park(claim)
    until(lambda: keys(store) == [f"op.{name}", f"parked.{name}"])
    runner.intervened(runner.read(claim), an_intervention(Verb.RELEASE))
    until(lambda: keys(store) == [f"op.{name}"])
    assert [line.number for line in runner.audit()] == [1]


def test_nothing_is_left_of_what_was_purged(store: NatsStore, runner: Runner, clock: ManualClock) -> None:
    """S10: no marks either."""
    runner.record(runner.claimed(an_ask()), retention_seconds=60, tombstone_seconds=60)
    clock.advance(60)
    assert runner.purge_all() == Purged(0, 1, more=False)
    until(lambda: keys(store) == [])


def test_a_refused_claim_leaves_no_pointer_and_hides_no_other(
    store: NatsStore, runner: Runner, clock: ManualClock
) -> None:
    """R2: a duplicate's lease is not the operation's."""
    claim = runner.claimed(an_ask(lease_seconds=10, mode=Mode.AGAIN))
    clock.advance(9)
    runner.claim(an_ask(lease_seconds=900, mode=Mode.AGAIN))
    clock.advance(1)
    assert [met.operation_id for met in runner.abandoned()] == [claim.operation_id]
    runner.record(claim)
    runner.claim(an_ask(lease_seconds=900, mode=Mode.AGAIN))
    until(lambda: keys(store) == [f"op.{claim.digest.hex()}"])


def test_who_loses_a_race_for_a_new_key_leaves_the_pointer_on_which_the_winner_relies(
    store: NatsStore, make: Callable[[], NatsStore], runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R2: the winner was refused one of its own, and may die before it makes sure of it."""
    original = Documents._send_pointer
    rival = make()
    rival.open()
    won: list[bool] = []

    async def overtaken(self: Documents, *args: Any, **kwargs: Any) -> Any:
        answer = await original(self, *args, **kwargs)
        if self._keeping is store._keeping and not won:
            won.append(True)
            await answer
            await asyncio.to_thread(rival.run, lambda: rival.verbs.claim(ask))
        return answer

    async def dies(self: Documents, *args: Any, **kwargs: Any) -> None:
        """What the winner would do after its document is there."""

    ask = an_ask(mode=Mode.AGAIN)
    real = Documents._settle

    async def settled(self: Documents, *args: Any, **kwargs: Any) -> None:
        await (real if self._keeping is store._keeping else dies)(self, *args, **kwargs)

    monkeypatch.setattr(Documents, "_send_pointer", overtaken)
    monkeypatch.setattr(Documents, "_settle", settled)
    runner.claim(an_ask(mode=Mode.AGAIN))
    monkeypatch.undo()
    runner.look_up(ask)
    name = ask.identity.digest.hex()
    assert keys(store) == [f"op.{name}", f"open.{name}"]


@pytest.mark.parametrize("headers_only", [False, True])
def test_a_walk_whose_consumer_is_gone_does_not_end_as_if_it_were_complete(
    store: NatsStore, runner: Runner, monkeypatch: pytest.MonkeyPatch, *, headers_only: bool
) -> None:
    """S10, R2: what it did not see would pass for what is not there."""
    runner.claimed(an_ask())
    bucket, real = store._keeping.bucket, Wire.flood

    async def flood(self: Wire, subject: str, payload: bytes, most: int) -> Any:
        await self.ask(subject.replace("CONSUMER.MSG.NEXT", "CONSUMER.DELETE"))
        return await real(self, subject, payload, most)

    async def look(wire: Wire) -> int:
        steps = walk(wire, bucket.stream, bucket.subject(">"), headers_only=headers_only)
        return len([passed async for passed in steps])

    assert on(store, look) > 2
    monkeypatch.setattr(Wire, "flood", flood)
    with pytest.raises(StoreUnavailable, match="status 503"):
        on(store, look)


def test_a_pointer_that_a_dead_process_left_is_deleted_once_it_is_old(
    store: NatsStore, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R2: by whoever meets it; a young one announces a document that may be on its way."""
    name = an_ask().identity.digest.hex()
    bucket = store._keeping.bucket
    on(store, lambda wire: wire.ask(bucket.subject("open", name), b"5.0"))
    assert list(runner.abandoned()) == []
    assert keys(store) == [f"open.{name}"]
    monkeypatch.setattr(port_module, "_SURELY_THERE_SECONDS", -60.0)
    assert list(runner.abandoned()) == []
    until(lambda: keys(store) == [])


def test_a_pointer_follows_its_document_s_lease(store: NatsStore, runner: Runner, clock: ManualClock) -> None:
    """R2: so that the scan of every second does not look at what was renewed."""
    claim = runner.claimed(an_ask(lease_seconds=10))
    for _ in range(4):
        clock.advance(5)
        runner.renew(claim)
    assert pointers(store) == [10.0]
    assert list(runner.abandoned()) == []
    until(lambda: pointers(store) == [30.0])
    runner.hand_over(claim)
    assert pointers(store) == [20.0]


def pointers(store: NatsStore) -> list[float]:
    async def look(wire: Wire) -> list[float]:
        found = await Documents(wire, store._keeping)._on("open")
        return [round(pointer.at - ManualClock()(), 3) for pointer in found]

    return on(store, look)


def test_a_pointer_that_is_missing_is_made_by_the_sweep(store: NatsStore, runner: Runner, clock: ManualClock) -> None:
    """R2: should a server have lost it, or somebody have deleted it."""
    claim = runner.claimed(an_ask(lease_seconds=10, mode=Mode.AGAIN))
    clock.advance(2 * DAY_SECONDS)
    bucket = store._keeping.bucket
    [pointer] = on(store, lambda wire: Documents(wire, store._keeping)._on("open"))
    on(store, lambda wire: wire.ask(*bucket.deleting(pointer.seq)))
    assert list(runner.abandoned()) == []
    runner.purge_all()
    assert [met.operation_id for met in runner.abandoned()] == [claim.operation_id]


def test_the_server_drops_a_tombstone_by_itself_and_nothing_that_is_open(store: NatsStore, runner: Runner) -> None:
    """S10: an hour behind the purge, should no process be there to purge."""
    claim = runner.claimed(an_ask())
    assert DROP_AFTER not in headers(store, claim.digest)
    runner.record(claim, tombstone_seconds=600, retention_seconds=60)
    assert headers(store, claim.digest)[DROP_AFTER] == "4200s"
    parked = runner.claimed(an_ask("parked"))
    runner.park(parked)
    assert DROP_AFTER not in headers(store, parked.digest)
    telling = runner.claimed(an_ask("telling"))
    runner.record(telling, messages=[Message("payments", b"paid")])
    assert DROP_AFTER not in headers(store, telling.digest)


def test_a_bucket_that_an_older_server_made_drops_nothing_by_itself(
    nats: Service, bucket: str, make: Callable[[], NatsStore]
) -> None:
    """S10: and its operations are recorded all the same."""
    first = make()
    settings = {"name": f"KV_{bucket}", "subjects": [f"$KV.{bucket}.>"], "max_msgs_per_subject": 1}
    connecting_only = NatsStore([nats.url], bucket=f"{bucket}-other")
    on(connecting_only, lambda wire: wire.ask(f"{API}.STREAM.CREATE.KV_{bucket}", msgspec.json.encode(settings)))
    connecting_only.close()
    runner = Runner(first, "sync")
    claim = runner.claimed(an_ask())
    runner.record(claim)
    assert DROP_AFTER not in headers(first, claim.digest)


def test_a_mark_of_another_client_s_deletion_does_not_keep_the_key(store: NatsStore, runner: Runner) -> None:
    """C6: `nats kv del` leaves one, and so does a time to live in a bucket that was made so."""
    claim = runner.claimed(an_ask())
    bucket = store._keeping.bucket
    mark = {"KV-Operation": "DEL"}
    on(store, lambda wire: wire.ask(bucket.subject("op", claim.digest.hex()), b"", mark))
    assert runner.look_up(claim) is None
    again = runner.claimed(an_ask())
    assert (again.fence, again.operation_id == claim.operation_id) == (1, False)
    runner.record(again)


class TestParts:
    BIG = b"\x00" * 1_500_000

    def test_what_does_not_fit_lies_in_parts_that_go_with_it(
        self, store: NatsStore, runner: Runner, clock: ManualClock
    ) -> None:
        """S2, S10: byte for byte, and nothing is left over."""
        claim = runner.claimed(an_ask(request=self.BIG, mode=Mode.AGAIN))
        assert runner.read(claim).request == self.BIG
        assert sum(name.startswith("part.") for name in keys(store)) == 3
        runner.record(claim, self.BIG[:600_000], retention_seconds=60)
        assert runner.read(claim).outcome == self.BIG[:600_000]
        until(lambda: sum(name.startswith("part.") for name in keys(store)) == 2)
        clock.advance(60)
        runner.purge_all()
        until(lambda: keys(store) == [f"op.{claim.digest.hex()}"])

    def test_parts_of_a_write_that_was_refused_are_dropped(self, store: NatsStore, runner: Runner) -> None:
        claim = runner.claimed(an_ask(mode=Mode.AGAIN))
        runner.record(claim)
        runner.claim(an_ask(request=self.BIG, mode=Mode.AGAIN))
        until(lambda: keys(store) == [f"op.{claim.digest.hex()}"])

    def test_parts_that_a_dead_process_left_are_dropped_by_a_purge(
        self, store: NatsStore, runner: Runner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept = runner.claimed(an_ask(request=self.BIG, mode=Mode.AGAIN))
        bucket = store._keeping.bucket
        on(store, lambda wire: parts.put(wire, bucket, an_ask("dead").identity.digest, self.BIG))
        assert sum(name.startswith("part.") for name in keys(store)) == 6
        monkeypatch.setattr(parts, "_SURELY_NAMED_SECONDS", -60.0)
        runner.purge()
        until(lambda: sum(name.startswith("part.") for name in keys(store)) == 3)
        assert runner.read(kept).request == self.BIG


class TestManyDocuments:
    def test_a_listing_reads_from_the_end_as_far_as_it_shows(
        self, store: NatsStore, runner: Runner, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """S10: and finds everything in the order in which it was made, however it was written since."""
        monkeypatch.setattr("retrysafe.stores.nats.listing._FIRST_STRETCH", 5)
        monkeypatch.setattr("retrysafe.stores.nats.listing._LONGEST_STRETCH", 7)
        claims = []
        for number in range(40):
            claims.append(runner.claimed(an_ask(f"key-{number}")))
            clock.advance(20)
        for claim in claims[::3]:
            runner.record(claim)
        expected = [claim.operation_id for claim in reversed(claims)]
        for limit in (1, 7, 40, 100):
            assert [met.operation_id for met in runner.listing(Query(limit=limit))] == expected[:limit]
        assert [met.operation_id for met in runner.listing(Query(after=expected[30]))] == expected[31:]

    def test_a_sweep_goes_on_where_it_was_and_comes_back_when_something_is_due(
        self, store: NatsStore, runner: Runner, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """S10: stretch by stretch, with retentions of every length."""
        monkeypatch.setattr("retrysafe.stores.nats.sweep._STRETCH", 4)
        for number in range(30):
            claim = runner.claimed(an_ask(f"key-{number}"))
            runner.record(claim, retention_seconds=60 * (1 + number % 3), tombstone_seconds=900)
        for _ in range(3):
            clock.advance(59)
            assert runner.purge_all(limit=7) == Purged(0, 0, more=False)
            clock.advance(1)
            assert runner.purge_all(limit=7) == Purged(10, 0, more=False)
        clock.advance(900)
        assert runner.purge_all(limit=7) == Purged(0, 30, more=False)
        assert list(runner.listing()) == []


def test_an_index_that_could_not_be_written_is_written_later(
    store: NatsStore, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R2, D4: the caller is told that nothing is known, and the next scan makes it good."""
    original = Documents._send_pointer

    async def lost(self: Documents, *args: Any, **kwargs: Any) -> Any:
        answer = await original(self, *args, **kwargs)
        answered = await answer
        answered.data = b'{"error": {"code": 503, "err_code": 1, "description": "lost"}}'
        again: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        again.set_result(answered)
        return again

    monkeypatch.setattr(Documents, "_send_pointer", lost)
    ask = an_ask(mode=Mode.AGAIN, lease_seconds=0.001)
    with pytest.raises(Exception, match="lost"):
        runner.claim(ask)
    monkeypatch.undo()
    assert store._keeping.owed()
    runner.abandoned()
    assert not store._keeping.owed()
    assert pointers(store) == [0.001]


def test_expected_sequences_are_per_subject(store: NatsStore) -> None:
    """C1: what every write stands on."""

    async def twice(wire: Wire) -> list[bool]:
        subject = store._keeping.bucket.subject("tried")
        acks = [ack_of(await wire.ask(subject, b"", {EXPECTED: "0"})) for _ in range(2)]
        return [ack.error is None for ack in acks]

    assert on(store, twice) == [True, False]
