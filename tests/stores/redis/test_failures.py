"""What becomes of a store whose server dies, freezes, forgets or refuses, and of answers that are lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import pytest
import redis as library

from retrysafe.errors import StoreUnavailable
from retrysafe.protocol.effects import Receipt, Written
from retrysafe.protocol.model import Claim
from retrysafe.protocol.states import State
from retrysafe.protocol.verdicts import Claimed
from retrysafe.stores.base import Held
from retrysafe.stores.redis import RedisStore, from_url
from retrysafe.stores.redis.calls import script
from retrysafe.testing.asks import an_ask
from retrysafe.testing.runner import Face, Runner
from tests.services.redis_servers import Pair, until
from tests.services.service import Service
from tests.stores.postgres.relay import relay
from tests.stores.redis.tools import claimed, read, recording


@pytest.fixture(params=["sync", "async"])
def face(request: pytest.FixtureRequest) -> Face:
    return request.param  # type: ignore[no-any-return]


class TestServer:
    def test_a_server_that_is_killed_is_unavailable_and_then_back_with_everything(
        self, own_redis: Service, face: Face
    ) -> None:
        """D1, S1: without a restart of ours, and what was acknowledged is there."""
        runner = Runner(from_url(f"{own_redis.url}?persistence=always"), face)
        kept = runner.claimed(an_ask("kept"))
        own_redis.kill()
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match=r"(?i)refused|closed|reset|connect"):
                runner.claim(an_ask("lost"))
        own_redis.start()
        assert isinstance(runner.claim(an_ask("lost")), Claimed)
        runner.record(kept)
        assert runner.read(kept).state is State.DONE
        runner.close()

    def test_a_server_that_freezes_is_given_up_and_used_again_afterwards(self, own_redis: Service, face: Face) -> None:
        """D1: it says nothing, and nobody waits for ever."""
        runner = Runner(from_url(f"{own_redis.url}?timeout=500ms"), face)
        runner.claimed(an_ask("before"))
        own_redis.freeze()
        try:
            for _ in range(2):
                # The connection is given up, and a new one is not answered, either.
                with pytest.raises(StoreUnavailable, match=r"timed out|not answered|no connection"):
                    runner.claim(an_ask())
        finally:
            own_redis.thaw()
        until(lambda: _works(runner))
        runner.close()

    def test_a_server_that_is_not_there_is_said_to_be_not_there_at_once(self, face: Face) -> None:
        """D1: with the reason, and without a password."""
        runner = Runner(from_url("redis://me:secret@127.0.0.1:1/0"), face)
        with pytest.raises(StoreUnavailable, match="refused") as refused:
            runner.claim(an_ask())
        assert "secret" not in str(refused.value)
        assert "secret" not in repr(runner.store)
        runner.close()

    def test_a_server_that_refuses_us_says_why(self, redis: Service, face: Face) -> None:
        runner = Runner(from_url(redis.url.replace("redis://", "redis://me:secret@")), face)
        with pytest.raises(StoreUnavailable, match="WRONGPASS") as refused:
            runner.claim(an_ask())
        assert "secret" not in str(refused.value)
        runner.close()

    def test_a_server_that_is_full_refuses_new_claims_and_breaks_nothing(self, own_redis: Service, face: Face) -> None:
        """D1: a write that does not fit changes nothing, not even an index."""
        runner = Runner(from_url(own_redis.url), face)
        claim = runner.claimed(an_ask())
        with library.Redis.from_url(own_redis.url) as sight:
            sight.config_set("maxmemory", 1)
            with pytest.raises(StoreUnavailable, match="OOM"):
                runner.claim(an_ask("another"))
            sight.config_set("maxmemory", 0)
        assert [met.state for met in runner.listing()] == [State.RUNNING]
        runner.record(claim)
        assert [met.state for met in runner.listing()] == [State.DONE]
        runner.close()

    def test_a_server_that_forgets_its_scripts_is_told_them_again(
        self, store: RedisStore, sight: library.Redis, face: Face
    ) -> None:
        """Such as one that was started again: nobody hears of it."""
        runner = Runner(store, face)
        claim = runner.claimed(an_ask())
        sight.script_flush()
        assert len(runner.renew(claim, claim, claim)) == 3
        sight.script_flush()
        assert runner.record(claim) == Written()
        runner.close()

    def test_connections_that_were_ended_while_they_rested_are_not_noticed(
        self, own_redis: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """D1: such as by an administrator, or by a time-out of the server's."""
        monkeypatch.setattr("retrysafe.stores.redis.line._BELIEVED_SECONDS", 0.0)
        store = from_url(own_redis.url)

        async def work(sight: library.Redis) -> None:
            assert isinstance(await store.arun(partial(store.verbs.claim, an_ask("loop"))), Claimed)
            await asyncio.to_thread(claimed, store, an_ask("thread"))
            sight.client_kill_filter(_type="normal", skipme=True)
            # The loop hears of it as soon as it listens.
            await asyncio.to_thread(until, lambda: len(sight.client_list()) == 1)
            await asyncio.sleep(0)
            await asyncio.to_thread(claimed, store, an_ask("thread again"))
            assert isinstance(await store.arun(partial(store.verbs.claim, an_ask("loop again"))), Claimed)
            await store.aclose()

        with library.Redis.from_url(own_redis.url) as sight:
            asyncio.run(work(sight))


def _works(runner: Runner) -> bool:
    try:
        return isinstance(runner.claim(an_ask("works", attempt_id="0190")), Claimed)
    except StoreUnavailable:
        return False


Write = Callable[[Runner, Claim], Receipt]


class TestDemotion:
    def test_a_server_that_is_no_primary_any_more_is_left(self, own_redis: Service, face: Face) -> None:
        """D1: the same address may lead to the new primary, but a connection that is open does not."""
        runner = Runner(from_url(own_redis.url), face)
        runner.claimed(an_ask("before"))
        with library.Redis(port=own_redis.port) as server:
            known = {client["id"] for client in server.client_list()}
            server.replicaof("127.0.0.1", "1")
            with pytest.raises(StoreUnavailable, match=r"READONLY|primary|master"):
                runner.claim(an_ask("lost"))
            server.replicaof("NO", "ONE")
            assert isinstance(runner.claim(an_ask("after")), Claimed)
            assert {client["id"] for client in server.client_list()} - known, "it came over a new connection"
        runner.close()


class TestFullMemory:
    """D1, S10: what is under way ends as it should, and a purge makes room; only new claims are refused."""

    def test_whatever_is_running_goes_on_and_a_purge_frees(self, own_redis: Service, face: Face) -> None:
        runner = Runner(from_url(own_redis.url), face)
        claims = [runner.claimed(an_ask(f"k{number}")) for number in range(3)]
        old = runner.claimed(an_ask("old"))
        assert runner.record(old, b"x" * 1_000_000, retention_seconds=0.0) == Written()
        with library.Redis(port=own_redis.port) as server:
            server.config_set("maxmemory", 1)
            with pytest.raises(StoreUnavailable):
                runner.claim(an_ask("new"))
            assert runner.renew(*claims) == [Held()] * 3
            assert runner.memoize(claims[2]) == Written()
            assert runner.record(claims[0], b"outcome") == Written()
            assert runner.release(claims[1]) == Written()
            before = server.info("memory")["used_memory"]
            assert runner.purge(10).expired == 1
            assert server.info("memory")["used_memory"] < before - 500_000
            server.config_set("maxmemory", 0)
        runner.close()


class TestLostAnswers:
    """D4: nobody knows whether a write was made; the same verb, again, tells."""

    def test_a_claim_whose_answer_was_lost_is_ours(self, redis: Service, url: str, face: Face) -> None:
        """D4, C1."""
        ask = an_ask()
        with relay(redis.port) as wire:
            runner = Runner(from_url(_by_way_of(wire.port, redis, url)), face)
            runner.claimed(an_ask("before"))
            with wire.losing_answers_to(script("claim").digest.encode()), pytest.raises(StoreUnavailable):
                runner.claim(ask)
            assert runner.claimed(ask).fence == 1
            runner.close()

    @pytest.mark.parametrize(
        ("write", "name"),
        [
            (Runner.record, "record"),
            (Runner.release, "write"),
            (Runner.park, "write"),
            (Runner.begin_stream, "write"),
            (Runner.begin_undo, "write"),
            (Runner.memoize, "memoize"),
        ],
        ids=["record", "release", "park", "begin_stream", "begin_undo", "memoize"],
    )
    def test_a_write_whose_answer_was_lost_was_made(
        self, redis: Service, url: str, face: Face, write: Write, name: str
    ) -> None:
        """D4, C4: made once, and known as made."""
        with relay(redis.port) as wire:
            runner = Runner(from_url(_by_way_of(wire.port, redis, url)), face)
            claim = runner.claimed(an_ask())
            # So that the server knows the script.
            write(runner, runner.claimed(an_ask("before")))
            with wire.losing_answers_to(script(name).digest.encode()), pytest.raises(StoreUnavailable):
                write(runner, claim)
            met = runner.trail(claim)
            assert write(runner, claim) == Written()
            after = runner.trail(claim)
            assert (met.checkpoint.state, met.memos) == (after.checkpoint.state, after.memos)
            runner.close()


def _by_way_of(port: int, server: Service, url: str) -> str:
    return url.replace(f":{server.port}/", f":{port}/")


class TestCancelledCallers:
    """C7: a caller that goes away spoils nothing for the others on its connection."""

    def test_answers_to_callers_that_went_away_reach_nobody_else(self, own_redis: Service) -> None:
        """C1, C7: each of the others gets its own."""
        store = from_url(own_redis.url)

        async def work() -> None:
            await store.aopen()
            assert isinstance(await store.arun(partial(store.verbs.claim, an_ask("before"))), Claimed)
            own_redis.freeze()
            asks = [an_ask(f"key-{number}") for number in range(40)]
            running = [asyncio.ensure_future(store.arun(partial(store.verbs.claim, ask))) for ask in asks]
            await asyncio.sleep(0)
            for each in running[::2]:
                each.cancel()
            own_redis.thaw()
            answers = await asyncio.gather(*running, return_exceptions=True)
            assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])
            for ask, answer in zip(asks[1::2], answers[1::2], strict=True):
                assert isinstance(answer, Claimed)
                assert answer.claim.digest == ask.identity.digest
            for ask in asks[::2]:
                met = await store.aquery(partial(store.verbs.read, ask.identity.digest))
                assert met is not None, "what was submitted was done"
            await store.aclose()

        asyncio.run(work())

    def test_a_program_of_several_statements_goes_on_to_its_end(self, own_redis: Service) -> None:
        """C7: also when its caller left in the middle."""
        store = from_url(own_redis.url)

        async def work() -> None:
            ask = an_ask(lease_seconds=0.001)
            assert isinstance(await store.arun(partial(store.verbs.claim, ask)), Claimed)
            await asyncio.sleep(0.01)
            own_redis.freeze()
            again = an_ask(lease_seconds=60)
            taking = asyncio.ensure_future(store.arun(partial(store.verbs.claim, again)))
            await asyncio.sleep(0)
            taking.cancel()
            own_redis.thaw()
            with pytest.raises(asyncio.CancelledError):
                await taking
            met = await store.aquery(partial(store.verbs.read, ask.identity.digest))
            while met is None or met.state is State.RUNNING:
                met = await store.aquery(partial(store.verbs.read, ask.identity.digest))
            assert met.state is State.PARKED, "in mode once"
            await store.aclose()

        asyncio.run(work())


def test_behind_sentinel_a_replica_takes_over_with_all_that_it_was_waited_for(redis_pair: Pair) -> None:
    """D3: what a replica had acknowledged is there after the failover, and the same store goes on."""
    store = from_url(f"{redis_pair.url}?persistence=always&wait=1&timeout=2s")
    done = claimed(store, an_ask("done"))
    store.run(recording(store, done))
    opened = claimed(store, an_ask("open", lease_seconds=600))
    redis_pair.primary.kill()
    with pytest.raises(StoreUnavailable):
        store.run(recording(store, opened))
    # With one replica gone nobody else can acknowledge: what is done now is told to be unknown.
    after = from_url(f"{redis_pair.url}?persistence=always&timeout=2s")
    until(lambda: _is_there(after))
    assert read(after, done).state is State.DONE
    assert after.run(recording(after, opened)) == Written()
    with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
        claimed(store, an_ask("later"))
    store.close()

    async def on_a_loop() -> None:
        answers = [await after.arun(partial(after.verbs.claim, an_ask(f"key-{number}"))) for number in range(3)]
        assert all(isinstance(answer, Claimed) for answer in answers)
        await after.aclose()

    asyncio.run(on_a_loop())


def _is_there(store: RedisStore) -> bool:
    try:
        claimed(store, an_ask("probe", attempt_id="0190"))
    except StoreUnavailable:
        return False
    return True
