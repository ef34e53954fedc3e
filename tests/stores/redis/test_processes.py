"""Many processes on one server, processes that fork, and a server that dies under them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from retrysafe.protocol.model import Mode
from retrysafe.protocol.states import State
from retrysafe.protocol.verdicts import Claimed, InFlight
from retrysafe.stores.base import Query
from retrysafe.stores.redis import RedisStore, from_url
from retrysafe.testing.asks import an_ask
from tests.services.redis_servers import Cluster, until
from tests.services.service import Service
from tests.stores import family
from tests.stores.redis.tools import a_prefix, claimed, read, recording

CHILDREN = "tests.stores.redis.children"
together = partial(family.together, CHILDREN)


def race(url: str, keys: int) -> None:
    with ExitStack() as stack:
        children = [
            stack.enter_context(family.child(CHILDREN, how, url, keys))
            for how in ("race_on_a_loop", "race_in_threads") * 2
        ]
        for one in children:
            assert one.hear() == "ready"
        for one in children:
            one.start()
        met = [answer for one in children for answer in one.hear()]
    won = [operation for what, operation in met if what == "won"]
    others = {operation for what, operation in met if what != "won"}
    assert (len(met), len(won), len(set(won))) == (4 * 13 * keys, keys, keys)
    assert others <= set(won)
    store = from_url(url)
    listed = store.query(partial(store.verbs.listing, Query(limit=1000)))
    assert {row.operation_id for row in listed} == set(won)
    assert {row.state for row in listed} == {State.DONE}
    store.close()


def test_of_all_who_race_exactly_one_wins_each_key(url: str) -> None:
    """C1, C6: fifty callers for each key, on loops and in threads of four processes; nobody gets a wrong outcome."""
    race(url, 40)


def test_of_all_who_race_in_a_cluster_exactly_one_wins_each_key(redis_cluster: Cluster) -> None:
    """C1, C6: each key has its own primary."""
    race(f"{redis_cluster.url}?prefix={a_prefix()}", 15)


def test_processes_that_start_at_once_agree_on_one_pepper(url: str) -> None:
    """K4: whoever comes second keeps what the first made."""
    assert len(set(together(4, "open_at_once", url))) == 1


def _abandon(store: RedisStore, number: int) -> None:
    for place in range(number):
        claimed(store, an_ask(f"key-{place}", mode=Mode.AGAIN, lease_seconds=0.001))
    until(lambda: len(store.query(partial(store.verbs.abandoned, 1000))) == number)


def test_of_several_scanning_processes_each_operation_is_hinted_to_one(store: RedisStore, url: str) -> None:
    """R1, R2: without a leader, and nobody waits for another."""
    _abandon(store, 60)
    answers = together(3, "scan", url)
    hinted = [operation for hints, _ in answers for operation in hints]
    taken = [operation for _, takes in answers for operation in takes]
    assert (len(hinted), len(set(hinted))) == (60, 60)
    assert sorted(taken) == sorted(hinted)


def test_of_several_processes_that_see_the_same_exactly_one_takes_each(store: RedisStore, url: str) -> None:
    """R1: what is seen grants nothing."""
    _abandon(store, 40)
    taken = [operation for answer in together(3, "take_over_what_all_see", url) for operation in answer]
    assert (len(taken), len(set(taken))) == (40, 40)


def test_what_was_acknowledged_survives_the_server(own_redis: Service) -> None:
    """S1, D3: killed in the middle of work, and started again, it lacks nothing that anybody heard of."""
    url = f"{own_redis.url}?persistence=always"
    with family.child(CHILDREN, "work_until_the_server_is_gone", url) as one:
        assert one.hear() == "many"
        own_redis.kill()
        acknowledged = one.hear()
    own_redis.start()
    store = from_url(url)
    assert len(acknowledged) >= 50
    for number in acknowledged:
        met = read(store, an_ask(f"key-{number}"))
        assert (met.state, met.outcome) == (State.DONE, str(number).encode())
    store.close()


class TestForks:
    """A child begins with nothing open, and leaves its parent's connections alone."""

    def test_a_fork_in_the_middle_of_work(self, store: RedisStore) -> None:
        """C1: both sides go on."""
        claim = claimed(store, an_ask("parent"))
        _expect_success(_fork(partial(_claim_in_child, store)))
        assert len(store.query(partial(store.verbs.listing, Query()))) == 2
        assert isinstance(store.run(partial(store.verbs.claim, an_ask("parent", attempt_id="x"))), InFlight)
        store.run(recording(store, claim))

    def test_a_fork_under_an_event_loop(self, store: RedisStore) -> None:
        """C1: the parent's answers come to the parent."""

        async def work() -> None:
            assert isinstance(await store.arun(partial(store.verbs.claim, an_ask("before"))), Claimed)
            claims = [partial(store.verbs.claim, an_ask(f"key-{number}")) for number in range(50)]
            running = [asyncio.ensure_future(store.arun(claim)) for claim in claims]
            await asyncio.sleep(0)
            _expect_success(_fork(partial(_claim_in_child, store)))
            assert all(isinstance(verdict, Claimed) for verdict in await asyncio.gather(*running))
            await store.aclose()

        asyncio.run(work())

    def test_a_child_that_only_closes_and_ends_leaves_its_parent_alone(self, store: RedisStore) -> None:
        sockets = set(_sockets())
        _expect_success(_fork(store.close))
        claimed(store)
        assert set(_sockets()) == sockets, "the parent needed no other connection"

    def test_nothing_is_open_in_a_child_that_does_not_use_the_store(self, store: RedisStore) -> None:
        """C7: the server hears of its parent's death."""
        assert set(_sockets())
        store.close()
        others = set(_sockets())
        store.open()
        assert set(_sockets()) > others

        def look() -> None:
            assert set(_sockets()) <= others

        _expect_success(_fork(look))


def _claim_in_child(store: RedisStore) -> None:
    assert isinstance(store.run(partial(store.verbs.claim, an_ask("child"))), Claimed)
    assert asyncio.run(_claim_on_a_loop(store))
    store.close()


async def _claim_on_a_loop(store: RedisStore) -> bool:
    verdict = await store.arun(partial(store.verbs.claim, an_ask("child", attempt_id="x")))
    await store.aclose()
    return isinstance(verdict, InFlight)


def _sockets() -> Iterator[str]:
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:"):
            yield target


def _fork(act: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException:  # noqa: BLE001 - whatever it is, the child must not go on as a test
            os._exit(1)
        os._exit(0)
    return child


def _expect_success(child: int) -> None:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
