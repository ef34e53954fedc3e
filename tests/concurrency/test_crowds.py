"""Crowds of clients with equal keys, on two processes that share one SQLite file."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tests.concurrency.crowd import check, crowd, two
from tests.crash.processes import Server, Town, expect_death, until
from tests.servers.wire import Reply

Found = Callable[..., Town]

CLIENTS = 50


def kind(reply: Reply) -> str:
    if reply.replayed:
        return f"{reply.status} replayed"
    return f"{reply.status} {reply.code}".strip()


def post(servers: Sequence[Server], key: str, number: int) -> Reply:
    """Every other client asks the other process."""
    return servers[number % 2].post(key=key)


def post_one_of(bodies: Sequence[bytes], servers: Sequence[Server], key: str, number: int) -> Reply:
    """Of those who ask one process, every other means something else."""
    return servers[number // 2 % 2].post(key=key, body=bodies[number % 2])


def test_of_fifty_equal_requests_one_has_its_effect_for_each_of_forty_keys(town: Found) -> None:
    """C1, across processes. Nobody hears an error, and every later retry replays."""
    shop = town(lease_seconds=15.0)
    servers = two(shop)
    with crowd(CLIENTS) as clients:
        keys = [f"key-of-the-crowd-{number}" for number in range(40)]
        for key in keys:
            heard = Counter(map(kind, clients.ask(partial(post, servers, key))))
            assert heard["201"] == 1
            assert heard.keys() <= {"201", "201 replayed", "409 in-progress"}
        assert len(shop.ledger) == len(keys)
        retried = [servers[number % 2].post(key=key) for number, key in enumerate(keys * 2)]
    assert {kind(reply) for reply in retried} == {"201 replayed"}
    assert len(shop.ledger) == len(keys)
    check(shop)


def test_of_two_different_requests_under_one_key_one_wins_and_the_other_is_told(town: Found) -> None:
    """F1, I12: never both; also while the winner is in flight, before it is 409."""
    shop = town(lease_seconds=15.0)
    servers = two(shop)
    bodies = [b'{"amount": 1}', b'{"amount": 2}']
    with crowd(CLIENTS) as clients:
        for key in (f"key-of-two-minds-{number}" for number in range(10)):
            replies = clients.ask(partial(post_one_of, bodies, servers, key))
            by_body = [Counter(map(kind, replies[body::2])) for body in range(2)]
            (winner,) = (heard for heard in by_body if heard["201"])
            (loser,) = (heard for heard in by_body if not heard["201"])
            assert winner["201"] == 1
            assert winner.keys() <= {"201", "201 replayed", "409 in-progress"}
            assert loser == {"422 key-reused": CLIENTS // 2}
    assert len(shop.ledger) == 10
    check(shop)


def test_who_waits_in_another_process_gets_the_answer(town: Found) -> None:
    """S9."""
    shop = town(lease_seconds=15.0)
    servers = two(shop)
    with ThreadPoolExecutor(9) as clients:
        first = clients.submit(servers[0].post, "/held")
        shop.await_effects(1)
        waiting = [clients.submit(servers[number % 2].post, "/held", prefer="wait=10") for number in range(8)]
        until(lambda: shop.events().count("Conflicted") == 8, "all eight wait")
        shop.open_gate()
        assert first.result().status == 201
        assert Counter(kind(reply.result()) for reply in waiting) == {"201 replayed": 8}
    assert len(shop.ledger) == 1


def test_when_a_key_is_released_one_of_those_who_wait_claims_it(town: Found) -> None:
    """C6, S9: the others wait no longer than they asked for, and their retries replay."""
    shop = town(mode="again", lease_seconds=15.0)
    servers = two(shop)
    with ThreadPoolExecutor(9) as clients:
        first = clients.submit(servers[0].post, "/flaky")
        shop.await_effects(1)
        waiting = [clients.submit(servers[number % 2].post, "/flaky", prefer="wait=10") for number in range(8)]
        until(lambda: shop.events().count("Conflicted") == 8, "all eight wait")
        shop.open_gate()
        assert first.result().status == 503
        heard = Counter(kind(reply.result()) for reply in waiting)
    assert heard["201"] == 1
    assert heard.keys() <= {"201", "201 replayed", "409 in-progress"}
    assert {kind(server.post("/flaky")) for server in servers} == {"201 replayed"}
    assert [entry["attempt"] for entry in shop.ledger] == [1, 2]
    check(shop)


def test_claims_that_race_with_a_release_make_one_attempt_after_the_other(town: Found) -> None:
    """C6: a released key is claimed anew, by one."""
    shop = town(mode="again", lease_seconds=15.0)
    servers = two(shop)
    shop.open_gate()
    with crowd(20) as clients:
        for key in (f"key-that-is-released-{number}" for number in range(10)):

            def persist(number: int, key: str = key) -> Reply:
                return until(lambda: _final(servers[number % 2].post("/flaky", key)), "the answer is final")

            heard = Counter(map(kind, clients.ask(persist)))
            assert heard == {"201": 1, "201 replayed": 19}
    assert Counter(entry["attempt"] for entry in shop.ledger) == {1: 10, 2: 10}
    check(shop)


def _final(reply: Reply) -> Reply | None:
    """A client that retries after 409 and 503, as it is told to."""
    assert reply.status in {201, 409, 503}, reply
    return reply if reply.status == 201 else None


def test_claims_that_race_with_the_end_of_a_tombstone_are_each_answered_once(town: Found) -> None:
    """C5, C6, S10: what is purged is claimed anew; never twice at once, never an error."""
    shop = town(lease_seconds=15.0, kept_seconds=0.02)
    servers = two(shop)
    with crowd(16) as clients:
        heard: Counter[str] = Counter()
        for _ in range(40):
            heard.update(map(kind, clients.ask(lambda number: servers[number % 2].post())))
    assert heard.keys() <= {"201", "201 replayed", "409 in-progress", "410 key-expired"}
    assert heard["201"] == len(shop.ledger) > 1
    assert len({entry["operation"] for entry in shop.ledger}) == len(shop.ledger)
    check(shop)


def test_many_clients_that_find_a_dead_attempt_run_it_once_more(town: Found) -> None:
    """C1, C5, R1: a client and a scan, in two processes, race for what a third has left."""
    shop = town(mode="again")
    doomed = shop.start(faults=(("record", "before", 1),))
    servers = [shop.scanning(), shop.start()]
    with crowd(20) as clients:
        expect_death(doomed)
        replies = clients.ask(lambda number: servers[number % 2].post_until_settled())
    assert {reply.status for reply in replies} == {201}
    assert {reply.body for reply in replies} == {b'{"by": 2}'}
    assert [entry["attempt"] for entry in shop.ledger] == [1, 2]
    check(shop)
