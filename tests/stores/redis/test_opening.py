"""What a store asks of its server before it is used, and what it declares (D3)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec
import pytest
import redis as library
import valkey
from redis.backoff import NoBackoff
from redis.retry import Retry

from retrysafe import SHARED, Policy, RetrySafe
from retrysafe.errors import ConfigurationError, SchemaMismatch, StoreCorrupt, StoreUnavailable
from retrysafe.protocol.verdicts import Claimed, InFlight
from retrysafe.stores.base import Capability, Clock, Durability, Query
from retrysafe.stores.redis import Persistence, RedisStore, from_clients, from_url
from retrysafe.stores.redis.connections import Connections
from retrysafe.stores.redis.settings import Settings
from retrysafe.stores.urls import open_store
from retrysafe.testing.asks import an_ask
from tests.services.redis_servers import Cluster
from tests.services.service import Service
from tests.stores.redis.tools import a_prefix, claimed


@pytest.fixture(scope="module")
def changed() -> Iterator[Service]:
    """A server whose settings are changed."""
    from tests.services import servers

    with servers.redis() as service:
        yield service


@pytest.fixture
def admin(changed: Service) -> Iterator[library.Redis]:
    """Who changes them, and puts them back."""
    with library.Redis.from_url(changed.url) as client:
        yield client
        for name, value in (("appendonly", "yes"), ("appendfsync", "always"), ("maxmemory-policy", "noeviction")):
            client.config_set(name, value)


def refusal(url: str) -> str:
    store = from_url(url)
    with pytest.raises(ConfigurationError) as refused:
        store.open()
    store.close()
    return str(refused.value)


def _command(client: library.Redis, *words: str) -> None:
    execute: Callable[..., object] = client.execute_command
    execute(*words)


class TestServer:
    def test_a_server_that_evicts_is_refused(self, changed: Service, admin: library.Redis) -> None:
        """D3, S10: what it drops would run twice."""
        admin.config_set("maxmemory-policy", "allkeys-lru")
        assert "allkeys-lru" in refusal(changed.url)
        assert "CONFIG SET maxmemory-policy noeviction" in refusal(changed.url)

    @pytest.mark.parametrize(
        ("appendonly", "appendfsync", "kept"),
        [("yes", "everysec", "everysec"), ("yes", "no", "none"), ("no", "always", "none")],
    )
    def test_a_server_that_keeps_less_than_was_declared_is_refused(
        self, changed: Service, admin: library.Redis, appendonly: str, appendfsync: str, kept: str
    ) -> None:
        """D3: with both ways out."""
        admin.config_set("appendonly", appendonly)
        admin.config_set("appendfsync", appendfsync)
        said = refusal(f"{changed.url}?persistence=always")
        assert f"keeps less ({kept})" in said
        assert "appendfsync always" in said
        store = from_url(f"{changed.url}?persistence={kept}&prefix={a_prefix()}")
        claimed(store)
        store.close()

    def test_a_server_that_keeps_more_than_was_declared_is_taken(self, changed: Service) -> None:
        store = from_url(f"{changed.url}?persistence=everysec&prefix={a_prefix()}")
        claimed(store)
        facts = store.facts()
        assert facts is not None
        assert facts.persistence is Persistence.ALWAYS
        store.close()

    def test_a_user_who_may_not_look_is_believed(self, changed: Service, admin: library.Redis) -> None:
        """D3: managed servers forbid CONFIG."""
        prefix = a_prefix()
        rights = ("on", ">secret", f"~{{{prefix}:*", "+eval", "+evalsha", "+ping", "+time", "+select")
        data = ("+get", "+set", "+getrange", "+setrange", "+del", "+exists", "+@sortedset", "+@hash", "+@list")
        _command(admin, "ACL", "SETUSER", "shop", "reset", *rights, *data)
        url = changed.url.replace("redis://", "redis://shop:secret@").replace("/0", "/0")
        store = from_url(f"{url}?persistence=always&prefix={prefix}")
        claimed(store)
        assert store.facts() is None
        store.close()
        store = from_url(f"{url}?prefix=others")
        with pytest.raises(StoreUnavailable, match="NOPERM"):
            store.open()
        store.close()

    def test_a_write_that_too_few_replicas_have_is_unknown(self, changed: Service) -> None:
        """D3, D4: it may have been made, and is not counted on; asked again, the store that waits for nobody tells."""
        url = f"{changed.url}?timeout=500ms&prefix={a_prefix()}"
        alone, store = from_url(url), from_url(f"{url}&wait=1")
        with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
            store.open()
        store._meta = alone.open()
        with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
            asyncio.run(_claim(store))
        verdict = alone.run(partial(alone.verbs.claim, an_ask()))
        assert isinstance(verdict, Claimed | InFlight)
        alone.close()
        store.close()

    def test_one_of_a_cluster_is_said_to_be_one(self, redis_cluster: Cluster) -> None:
        """With the URL that works."""
        for address in (node.address for node in redis_cluster.nodes):
            assert "write redis+cluster://" in refusal(f"redis://{address}/0")

    def test_several_databases_of_a_server_are_several_stores(self, redis: Service) -> None:
        """K4: each has a pepper of its own."""
        stores = [from_url(f"redis://{redis.address}/{number}?prefix={a_prefix()}") for number in (3, 4)]
        first, second = (store.open() for store in stores)
        assert first.pepper != second.pepper
        assert [len(claimed(store).operation_id) for store in stores] == [36, 36]
        for store in stores:
            store.close()


class TestMeta:
    def test_a_store_of_a_newer_version_is_left_alone(self, store: RedisStore, sight: library.Redis, url: str) -> None:
        """S11."""
        sight.set(store.keys.meta, msgspec.msgpack.encode((2, b"pepper", b"secret")))
        later = from_url(url)
        with pytest.raises(SchemaMismatch, match="upgrade retrysafe"):
            later.open()
        later.close()

    def test_a_meta_row_that_is_damaged_is_said_to_be(self, store: RedisStore, sight: library.Redis, url: str) -> None:
        sight.set(store.keys.meta, b"?")
        later = from_url(url)
        with pytest.raises(StoreCorrupt):
            later.open()
        later.close()


class TestEmptiedServers:
    """K4: a server without persistence that was started again, while processes live that know the old pepper."""

    def test_a_pepper_that_was_lost_is_put_back_by_whoever_knows_it(
        self, store: RedisStore, sight: library.Redis, url: str
    ) -> None:
        """K4: so that a process that comes later agrees."""
        pepper = store.open().pepper
        sight.delete(store.keys.meta)
        _cut_off(store)
        claimed(store, an_ask("thread"))
        later = from_url(url)
        assert later.open().pepper == pepper
        later.close()
        sight.delete(store.keys.meta)
        assert isinstance(asyncio.run(_claim_and_close(store)), Claimed)
        later = from_url(url)
        assert later.open().pepper == pepper
        later.close()

    def test_a_store_that_others_have_made_anew_is_not_used(
        self, store: RedisStore, sight: library.Redis, url: str
    ) -> None:
        """K4: the same key would be two operations."""
        sight.delete(store.keys.meta)
        other = from_url(url)
        other.open()
        _cut_off(store)
        with pytest.raises(StoreUnavailable, match="restart this process"):
            claimed(store)
        with pytest.raises(StoreUnavailable, match="restart this process"):
            asyncio.run(_claim(store))
        claimed(other)
        other.close()


def _cut_off(store: RedisStore) -> None:
    """End the connections that a store has for threads, as the end of a server does."""
    transport = store._transport
    assert isinstance(transport, Connections)
    for line in transport._lines._every:
        line.close()
    transport._lines._resting.clear()


async def _claim_and_close(store: RedisStore) -> object:
    verdict = await store.arun(lambda: store.verbs.claim(an_ask("loop")))
    await store.aclose()
    return verdict


class TestClients:
    def test_a_client_that_decodes_is_refused(self, redis: Service) -> None:
        """Checkpoints are bytes."""
        with (
            library.Redis.from_url(redis.url, decode_responses=True) as client,
            pytest.raises(ConfigurationError, match="leave decode_responses out"),
        ):
            from_clients(client)

    def test_a_client_of_the_wrong_kind_is_refused(self, redis: Service) -> None:
        """Renewals come from a thread."""
        blocking, loops = library.Redis.from_url(redis.url), library.asyncio.Redis.from_url(redis.url)
        for wrong in ((loops, loops), (blocking, blocking)):
            with pytest.raises(ConfigurationError, match="asyncio"):
                from_clients(*wrong)
        blocking.close()

    @pytest.mark.parametrize("make", [library.Redis.from_url, valkey.Valkey.from_url], ids=["redis-py", "valkey-py"])
    def test_clients_stay_open_when_the_store_is_closed(self, redis: Service, make: Any) -> None:
        """They are the application's."""
        client = make(redis.url)
        store = from_clients(client, prefix=a_prefix())
        claimed(store)
        store.close()
        assert client.ping()
        client.close()

    def test_without_a_client_for_loops_threads_do_their_work(self, redis: Service) -> None:
        """C7: also when a caller goes away."""
        client = valkey.Valkey.from_url(redis.url)
        store = from_clients(client, prefix=a_prefix())

        async def work() -> None:
            await store.aopen()
            leaving = asyncio.ensure_future(store.arun(lambda: store.verbs.claim(an_ask("left"))))
            await asyncio.sleep(0)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            await asyncio.gather(*(store.arun(partial(store.verbs.claim, an_ask(f"{each}"))) for each in range(20)))
            await store.aclose()

        asyncio.run(work())
        assert len(store.query(lambda: store.verbs.listing(Query()))) == 21
        client.connection_pool.disconnect()

    def test_a_client_that_cannot_reach_its_server_is_unavailable(self) -> None:
        """D1."""
        with (
            library.Redis(port=1, retry=Retry(NoBackoff(), 0)) as client,
            pytest.raises(StoreUnavailable, match="refused"),
        ):
            from_clients(client).open()

    def test_a_clients_replica_refuses_writes(self, redis7: Service, redis: Service) -> None:
        """D1: after a failover, say; whoever asks tries again."""
        with library.Redis.from_url(redis7.url) as admin, library.Redis.from_url(redis7.url) as client:
            store = from_clients(client, prefix=a_prefix())
            store.open()
            own = from_url(f"{redis7.url}?prefix={a_prefix()}")
            own.open()
            _command(admin, "REPLICAOF", "127.0.0.1", "1")
            try:
                for each in (store, own):
                    with pytest.raises(StoreUnavailable):
                        claimed(each)
            finally:
                _command(admin, "REPLICAOF", "NO", "ONE")
            own.close()

    def test_a_client_of_one_of_a_cluster_is_said_to_be_one(self, redis_cluster: Cluster) -> None:
        client = library.Redis(port=redis_cluster.nodes[0].port)
        with pytest.raises(ConfigurationError, match="Cluster"):
            from_clients(client).open()
        client.close()


async def _claim(store: RedisStore) -> object:
    return await store.arun(lambda: store.verbs.claim(an_ask()))


@pytest.mark.parametrize(
    ("url", "durability"),
    [
        ("redis://h", Durability.PROCESS),
        ("redis://h?persistence=everysec", Durability.PERIODIC),
        ("redis://h?persistence=always", Durability.NODE),
        ("redis://h?persistence=always&wait=1", Durability.REPLICATED),
        ("redis+sentinel://h/shop?persistence=always", Durability.REPLICATED),
        ("redis+cluster://h?persistence=always", Durability.REPLICATED),
    ],
)
def test_a_store_declares_what_its_writes_survive(url: str, durability: Durability) -> None:
    """D3, C2."""
    traits = open_store(url).traits
    assert traits.durability is durability
    assert (traits.name, traits.clock) == ("redis", Clock.SERVER)
    assert Capability.SAME_TRANSACTION not in traits.capabilities


@pytest.mark.parametrize("mode", ["steps", "transaction"])
@pytest.mark.parametrize("scheme", ["redis://h", "redis+cluster://h"])
def test_what_must_not_be_forgotten_needs_a_declared_persistence(scheme: str, mode: str) -> None:
    """D3: refused at construction, wherever the mode is said, with the fix."""
    guard = RetrySafe(scheme, principal=SHARED)
    for declare in (
        lambda: guard.protect("POST /orders", mode=mode),
        lambda: guard.operation("order", mode=mode),
        lambda: RetrySafe(scheme, principal=SHARED, policy=Policy(mode=mode)),  # type: ignore[arg-type]
    ):
        with pytest.raises(ConfigurationError, match="declare it with persistence=everysec"):
            declare()
    guard.protect("POST /charges", mode="once")
    for persistence in ("everysec", "always"):
        RetrySafe(f"{scheme}?persistence={persistence}", principal=SHARED).protect("POST /orders", mode=mode)


def test_skew_of_an_applications_host_changes_no_instant(
    store: RedisStore, sight: library.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C2: every instant is the server's."""
    import time

    seconds, micros = sight.time()
    for skew in (-60.0, 60.0, 86_400.0):
        monkeypatch.setattr(time, "time", lambda skew=skew: seconds + skew)
        ask = an_ask(f"key {skew}", lease_seconds=30)
        claimed(store, ask)
        met = store.query(lambda ask=ask: store.verbs.read(ask.identity.digest))  # type: ignore[misc]
        assert met is not None
        assert seconds + micros / 1e6 <= met.created_at <= met.now <= seconds + 60
        assert met.lease_until == met.created_at + 30


def test_a_loop_that_never_closed_its_store_leaves_it_usable(url: str) -> None:
    """A program that runs one loop after the other collects no connections, though it closes nothing itself."""
    store = RedisStore(Connections(Settings(port=int(url.split(":")[2].split("/", maxsplit=1)[0]))), prefix=a_prefix())

    async def work(number: int) -> bool:
        return isinstance(await store.arun(lambda: store.verbs.claim(an_ask(f"key-{number}"))), Claimed)

    assert all(asyncio.run(work(number)) for number in range(3))
    store.close()
