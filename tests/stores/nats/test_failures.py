"""What becomes of a store whose server dies, freezes, loses answers or refuses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import msgspec
import pytest

from retrysafe.errors import ConfigurationError, SchemaMismatch, StoreCorrupt, StoreUnavailable
from retrysafe.protocol.states import State
from retrysafe.protocol.verdicts import Claimed, InFlight
from retrysafe.stores.nats import NatsStore
from retrysafe.stores.nats.bucket import API, Bucket
from retrysafe.stores.nats.wire import Wire
from retrysafe.testing.asks import an_ask
from retrysafe.testing.runner import Face, Runner
from tests.services.service import Service
from tests.stores.postgres.relay import relay
from tests.stores.postgres.tools import until


@pytest.fixture(params=["sync", "async"])
def face(request: pytest.FixtureRequest) -> Face:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def run(face: Face, bucket: str) -> Iterator[Callable[..., Runner]]:
    """Make a store on an address; it is closed at the end."""
    made: list[Runner] = []

    def one(url: str, **settings: Any) -> Runner:
        made.append(Runner(NatsStore([url], bucket=bucket, **settings), face))
        return made[-1]

    yield one
    for runner in made:
        runner.close()


class TestServer:
    def test_a_server_that_is_killed_is_unavailable_and_then_back_with_everything(
        self, own_nats: Service, run: Callable[..., Runner]
    ) -> None:
        """D1, S1: without a restart of ours, and what was acknowledged is there."""
        runner = run(own_nats.url)
        kept = runner.claimed(an_ask("kept"))
        own_nats.kill()
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match=r"(?i)connect"):
                runner.claim(an_ask("lost"))
        own_nats.start()
        until(lambda: _works(runner))
        runner.record(kept)
        assert runner.read(kept).state is State.DONE

    def test_a_server_that_freezes_is_given_up_and_used_again_afterwards(
        self, own_nats: Service, run: Callable[..., Runner]
    ) -> None:
        """D1: it says nothing, and nobody waits for ever."""
        runner = run(own_nats.url, timeout=timedelta(seconds=1))
        runner.claimed(an_ask("before"))
        own_nats.freeze()
        try:
            for _ in range(2):
                with pytest.raises(StoreUnavailable, match="NATS"):
                    runner.claim(an_ask())
        finally:
            own_nats.thaw()
        until(lambda: _works(runner))

    def test_a_server_that_is_not_there_is_said_to_be_not_there_at_once(self, run: Callable[..., Runner]) -> None:
        """D1, K8: with the reason, and without a password."""
        runner = run("nats://me:secret@127.0.0.1:1")
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1") as refused:
            runner.claim(an_ask())
        assert "secret" not in str(refused.value)
        assert "secret" not in repr(runner.store)

    def test_writers_go_on_when_their_server_comes_back(self, own_nats: Service, bucket: str) -> None:
        """S1, D4: whatever was acknowledged is there, once, and nothing is written under a claim that was lost."""
        store = NatsStore([own_nats.url], bucket=bucket, timeout=timedelta(seconds=2))
        store.open()
        acknowledged: list[str] = []
        started, stopped = threading.Event(), threading.Event()

        def write(worker: int) -> None:
            for number in range(10_000):
                if stopped.is_set():
                    return
                ask = an_ask(f"key-{worker}-{number}")
                verdict = _insist(store, partial(store.verbs.claim, ask))
                assert isinstance(verdict, Claimed), "its own claim, however often it was asked for"
                outcome = ask.attempt_id.encode()
                record = partial(
                    store.verbs.record, verdict.claim, outcome, retention_seconds=900.0, tombstone_seconds=900.0
                )
                _insist(store, record)
                acknowledged.append(ask.attempt_id)
                if len(acknowledged) >= 60:
                    started.set()

        workers = [threading.Thread(target=write, args=[worker]) for worker in range(4)]
        for worker in workers:
            worker.start()
        assert started.wait(60)
        own_nats.restart()
        before = len(acknowledged)
        until(lambda: len(acknowledged) >= before + 60)
        stopped.set()
        for worker in workers:
            worker.join()
        runner = Runner(store, "sync")
        there = {met.operation_id: met.state for met in runner.store.run(partial(store.verbs.listing, _everything()))}
        assert all(there[operation] is State.DONE for operation in acknowledged)
        assert [met for met in there.values() if met is not State.DONE] == []
        store.close()


def _everything() -> Any:
    from retrysafe.stores.base import Query

    return Query(limit=1_000_000)


def _insist(store: NatsStore, program: Callable[[], Any]) -> Any:
    """Run a program again and again, as the runtime does."""
    while True:
        try:
            return store.run(program)
        except StoreUnavailable:
            continue


def _works(runner: Runner) -> bool:
    try:
        return isinstance(runner.claim(an_ask("works", attempt_id="0190")), Claimed)
    except StoreUnavailable:
        return False


class TestLostAnswers:
    def test_a_write_whose_answer_was_lost_is_made_again_and_tells(
        self, nats: Service, bucket: str, run: Callable[..., Runner]
    ) -> None:
        """D4: by operation and fence; the claim is ours, and the outcome is the first one."""
        with relay(nats.port) as wire:
            runner = run(f"nats://127.0.0.1:{wire.port}")
            runner.open()
            ask = an_ask()
            write = f"PUB $KV.{bucket}.op.".encode()
            with wire.losing_answers_to(write), pytest.raises(StoreUnavailable):
                runner.claim(ask)
            claim = runner.claimed(ask)
            assert (claim.fence, claim.attempt) == (1, 1)
            assert isinstance(runner.claim(an_ask()), InFlight)
            with wire.losing_answers_to(write), pytest.raises(StoreUnavailable):
                runner.record(claim, b"first")
            runner.record(claim, b"second")
            assert runner.read(claim).outcome == b"first"

    def test_a_caller_who_gives_up_leaves_its_write_running(self, nats: Service, bucket: str) -> None:
        """C7, D4: what was submitted may be durable, and is ours when it is asked for again."""

        async def cancelled() -> object:
            store = NatsStore([nats.url], bucket=bucket)
            await store.aopen()
            ask = an_ask()
            claiming = asyncio.ensure_future(store.arun(partial(store.verbs.claim, ask)))
            await asyncio.sleep(0)
            claiming.cancel()
            with pytest.raises(asyncio.CancelledError):
                await claiming
            verdict = await store.arun(partial(store.verbs.claim, ask))
            await store.aclose()
            return verdict

        verdict = asyncio.run(cancelled())
        assert isinstance(verdict, Claimed)
        assert verdict.claim.fence == 1


class TestRefusals:
    @pytest.mark.parametrize(
        ("setting", "problem"),
        [
            ({"max_msgs_per_subject": 5}, "has a history"),
            ({"max_msgs_per_subject": 1, "deny_delete": True}, "does not permit to delete"),
            ({"max_msgs_per_subject": 1, "max_age": 3600 * 10**9}, "forgets by age"),
            ({"max_msgs_per_subject": 1, "max_msgs": 40}, "drops its oldest message.* at max_msgs: discard new"),
            ({"max_msgs_per_subject": 1, "max_bytes": 10**6, "discard": "old"}, "at max_bytes: discard new"),
            ({"max_msgs_per_subject": 1, "retention": "interest"}, "make it with retention limits"),
            ({"max_msgs_per_subject": 1, "storage": "memory"}, "is not on disk"),
        ],
    )
    def test_a_bucket_that_would_lose_or_keep_too_much_is_refused(
        self, nats: Service, bucket: str, run: Callable[..., Runner], setting: dict[str, Any], problem: str
    ) -> None:
        """D3, S10: with what is wrong, before anything is stored in it."""
        make = {"name": f"KV_{bucket}", "subjects": [f"$KV.{bucket}.>"], **setting}
        _ask(nats, f"{API}.STREAM.CREATE.KV_{bucket}", msgspec.json.encode(make))
        runner = run(nats.url)
        with pytest.raises(ConfigurationError, match=problem):
            runner.open()

    def test_too_few_replicas_are_refused(self, nats: Service, bucket: str, run: Callable[..., Runner]) -> None:
        """D3: what is declared has to be true."""
        run(nats.url).open()
        with pytest.raises(ConfigurationError, match="fewer than 3 replicas"):
            run(nats.url, replicas=3).open()

    @pytest.mark.parametrize(
        ("body", "error"), [(msgspec.msgpack.encode([2, b"", b""]), SchemaMismatch), (b"\xc1", StoreCorrupt)]
    )
    def test_a_bucket_that_this_code_does_not_know_is_left_alone(
        self, nats: Service, bucket: str, run: Callable[..., Runner], body: bytes, error: type[Exception]
    ) -> None:
        """K4."""
        run(nats.url).open()
        _ask(nats, f"$KV.{bucket}.meta", body)
        with pytest.raises(error):
            run(nats.url).open()

    def test_a_bucket_that_was_made_anew_is_not_written_into_by_who_knew_the_old_one(
        self, nats: Service, bucket: str, make: Callable[[], NatsStore]
    ) -> None:
        """K4, C1: with another pepper the same key is another digest, and two processes would both have its claim."""
        first = make()
        first.open()
        for stream in (f"KV_{bucket}", f"KV_{bucket}_audit"):
            _ask(nats, f"{API}.STREAM.DELETE.{stream}", b"")
        make().open()
        assert first._wires.portal.loop is not None
        lost = first._wires._wires[first._wires.portal.loop]
        first._wires.portal.run(lost.close())
        for _ in range(2):
            with pytest.raises(StoreCorrupt, match="made anew"):
                Runner(first, "sync").claim(an_ask())
        first.close()
        Runner(first, "sync").claimed(an_ask())

    def test_settings_that_cannot_be_are_said_together(self) -> None:
        with pytest.raises(ConfigurationError) as refused:
            NatsStore([], bucket="a.b", replicas=2)
        assert len(refused.value.problems) == 3


def _ask(nats: Service, subject: str, payload: bytes) -> None:
    from retrysafe.stores.nats.connect import connecting

    async def ask() -> None:
        wire = await Wire.open(connecting([nats.url], {}, 5.0), 5.0)
        answer = await wire.ask(subject, payload)
        assert b'"error"' not in answer.data, answer.data
        await wire.close()

    asyncio.run(ask())


def test_subjects_are_those_of_every_client() -> None:
    """So that `nats kv ls` shows what is there."""
    bucket = Bucket("shop", 1)
    assert (bucket.stream, bucket.subject("op", "00ff")) == ("KV_shop", "$KV.shop.op.00ff")
