"""What is particular to DynamoDB: races, lost answers, large documents, margins, forks, and how a table is made."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import secrets
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from multiprocessing.synchronize import Event
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import ReadTimeoutError

from retrysafe.errors import ConfigurationError, SchemaMismatch, StoreUnavailable
from retrysafe.protocol.effects import Written
from retrysafe.protocol.model import Message, Mode
from retrysafe.protocol.operator import Verb
from retrysafe.protocol.verdicts import Claimed, InFlight
from retrysafe.stores.base import Query
from retrysafe.testing.asks import a_memo, an_ask, an_intervention
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.runner import Runner
from retrysafe_dynamodb import DynamoDBStore, from_url
from tests.services.service import Service

Make = Callable[..., DynamoDBStore]


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")


@pytest.fixture
def make(dynamodb: Service, credentials: None) -> Iterator[Make]:
    """Make stores on one table that nobody else has, as several processes do."""
    name, made = f"tests-{secrets.token_hex(8)}", list[DynamoDBStore]()

    def make(**options: Any) -> DynamoDBStore:
        given: dict[str, Any] = {"region": "eu-central-1", "endpoint": dynamodb.url, "shards": 3} | options
        made.append(DynamoDBStore(name, **given))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def runner(make: Make) -> Runner:
    return Runner(make(), "sync")


def _loses_answers(store: DynamoDBStore, operation: str, times: int = 1) -> list[str]:
    """Have the next requests of a kind carried out, and their answers lost; return what was lost."""
    lost: list[str] = []

    def lose(request: AWSPreparedRequest, **_: Any) -> None:
        if len(lost) < times and request.headers["X-Amz-Target"].decode().endswith(operation):
            lost.append(operation)
            store._open().client._endpoint.http_session.send(request)
            raise ReadTimeoutError(endpoint_url=request.url)

    store._open().client.meta.events.register("before-send.dynamodb", lose)
    return lost


class TestRaces:
    def test_of_fifty_who_claim_at_once_one_wins(self, make: Make) -> None:
        """C1: through stores of their own, as in processes of their own."""
        stores = [make() for _ in range(5)]
        stores[0].open()

        async def race() -> list[object]:
            claims = [store.arun(partial(store.verbs.claim, an_ask())) for store in stores for _ in range(10)]
            return list(await asyncio.gather(*claims))

        verdicts = asyncio.run(race())
        assert len(verdicts) == 50
        [winner] = [verdict for verdict in verdicts if isinstance(verdict, Claimed)]
        others = [verdict for verdict in verdicts if isinstance(verdict, InFlight)]
        assert len(others) == 49
        assert {each.checkpoint.operation_id for each in others} == {winner.claim.operation_id}

    def test_processes_that_begin_at_once_share_one_pepper(self, make: Make) -> None:
        """K4: the table is made once, and its meta row is written once."""
        stores = [make() for _ in range(8)]

        async def begin() -> list[object]:
            return list(await asyncio.gather(*(store.aopen() for store in stores)))

        assert len({_secrets(meta) for meta in asyncio.run(begin())}) == 1

    def test_lines_of_the_audit_that_are_added_at_once_have_numbers_of_their_own(self, make: Make) -> None:
        """R10: and none is lost."""
        runners = [Runner(make(), "sync") for _ in range(4)]
        claims = [runners[0].claimed(an_ask(f"key-{number}")) for number in range(8)]
        for claim in claims:
            runners[0].park(claim)
        seen = [runners[0].read(claim) for claim in claims]
        resumed = an_intervention(Verb.RELEASE)

        async def together() -> None:
            works = [runners[n % 4].store for n in range(8)]
            await asyncio.gather(
                *(
                    store.arun(partial(store.verbs.intervene, met, resumed))
                    for store, met in zip(works, seen, strict=True)
                )
            )

        asyncio.run(together())
        lines = runners[0].audit()
        assert sorted(line.number for line in lines) == list(range(1, 9))
        assert {line.operation_id for line in lines} == {claim.operation_id for claim in claims}


class TestLostAnswers:
    @pytest.mark.parametrize("times", [1, 2])
    def test_a_claim_that_the_client_sends_again_is_known_as_our_own(
        self, runner: Runner, make: Make, times: int
    ) -> None:
        """D4: its condition does not hold any more, because it was carried out."""
        store = make()
        lost = _loses_answers(store, "PutItem", times)
        ask = an_ask()
        verdict = store.run(partial(store.verbs.claim, ask))
        assert len(lost) == times
        assert isinstance(verdict, Claimed)
        assert verdict.claim.operation_id == ask.attempt_id
        assert runner.read(ask).fence == 1

    def test_a_record_whose_answers_are_all_lost_tells_so_and_is_told_again(self, make: Make) -> None:
        """D4: nobody knows; the same record again does."""
        store = make()
        runner = Runner(store, "sync")
        claim = runner.claimed(an_ask())
        lost = _loses_answers(store, "PutItem", 3)
        with pytest.raises(StoreUnavailable, match="Read timeout"):
            runner.record(claim, b"made")
        assert len(lost) == 3
        assert runner.record(claim, b"again") == Written()
        assert runner.read(claim).outcome == b"made"

    def test_a_large_record_that_is_sent_again_is_known_too(self, make: Make) -> None:
        """D4: a transaction as well."""
        store = make()
        runner = Runner(store, "sync")
        claim = runner.claimed(an_ask())
        lost = _loses_answers(store, "TransactWriteItems")
        assert runner.record(claim, bytes(1_000_000)) == Written()
        assert len(lost) == 1

    def test_a_line_of_the_audit_that_is_sent_again_is_there_once(self, make: Make) -> None:
        """R10, D4."""
        store = make()
        runner = Runner(store, "sync")
        claim = runner.claimed(an_ask())
        runner.park(claim)
        lost = _loses_answers(store, "TransactWriteItems")
        runner.intervened(runner.read(claim), an_intervention(Verb.RELEASE))
        assert len(lost) == 1
        assert [line.operation_id for line in runner.audit()] == [claim.operation_id]


class TestLargeDocuments:
    def test_parts_are_replaced_with_their_document_and_go_with_it(self, make: Make, dynamodb: Service) -> None:
        """S2, S10: one transaction writes everything or nothing, and nothing is left behind."""
        clock = ManualClock()
        store = make().with_clock(clock)
        runner = Runner(store, "sync")
        claim = runner.claimed(an_ask(mode=Mode.STEPS, request=bytes(900_000)))
        assert _parts(store) == 3
        runner.memoize(claim, a_memo(arguments=bytes(900_000)))
        assert _parts(store) == 5
        runner.record(claim, b"small", retention_seconds=60, tombstone_seconds=90)
        assert _parts(store) == 3
        clock.advance(60)
        runner.purge_all()
        assert _parts(store) == 0
        clock.advance(60)
        runner.purge_all()
        assert _items(store, "document#") == []

    def test_what_does_not_fit_into_a_transaction_is_refused_before_anything_is_written(self, runner: Runner) -> None:
        """D2: the claim stays, and so does what is there."""
        claim = runner.claimed(an_ask())
        before = runner.read(claim)
        with pytest.raises(StoreUnavailable, match="DynamoDB writes 3,800,000 at once"):
            runner.record(claim, bytes(4_000_000))
        assert runner.read(claim).state == before.state


class TestMargin:
    def test_a_process_whose_clock_is_ahead_by_less_than_the_margin_takes_nothing_over(self, make: Make) -> None:
        """C2: neither a claim nor the scan, neither at first nor after a renewal."""
        here, ahead = ManualClock(), ManualClock()
        ahead.advance(4.9)
        holder = Runner(make(margin=timedelta(seconds=5), clock=here), "sync")
        other = Runner(make(margin=timedelta(seconds=5), clock=ahead), "sync")
        claim = holder.claimed(an_ask(mode=Mode.AGAIN, lease_seconds=10))
        for _ in range(3):
            here.advance(10)
            ahead.advance(10)
            assert isinstance(other.claim(an_ask(mode=Mode.AGAIN)), InFlight)
            assert list(other.abandoned()) == []
            holder.renew(claim)
        here.advance(15)
        ahead.advance(15)
        [seen] = other.abandoned()
        taken = other.reclaimed(seen)
        here.advance(10)
        ahead.advance(10)
        assert taken.fence == 2
        assert list(holder.abandoned()) == []

    def test_it_is_declared(self, make: Make) -> None:
        """C2, D3."""
        assert make(margin=timedelta(seconds=7)).traits.margin_seconds == 7
        assert make().traits.margin_seconds == 5


class TestTable:
    def test_a_missing_table_is_not_made_where_that_is_forbidden(self, make: Make) -> None:
        store = make(create=False)
        with pytest.raises(SchemaMismatch) as caught:
            store.open()
        assert (caught.value.found, caught.value.needed) == (0, 1)
        made = make().open()
        assert store.open() == made

    def test_a_table_of_another_version_is_left_alone(self, make: Make) -> None:
        store = make()
        store.open()
        opened = store._open()
        key = {"pk": {"S": "meta"}, "sk": {"S": "meta"}}
        opened.client.update_item(
            TableName=store._table,
            Key=key,
            UpdateExpression="SET version = :v",
            ExpressionAttributeValues={":v": {"N": "2"}},
        )
        with pytest.raises(SchemaMismatch):
            make().open()

    def test_how_an_index_is_split_stays_as_the_table_was_made(self, make: Make) -> None:
        """Another number would not find what was written before."""
        first = Runner(make(shards=5), "sync")
        ids = {first.claimed(an_ask(f"key-{number}")).operation_id for number in range(20)}
        second = Runner(make(shards=1), "sync")
        assert {met.operation_id for met in second.listing(Query(limit=100))} == ids
        second.claimed(an_ask("one more"))
        assert len(first.listing(Query(limit=100))) == 21

    def test_messages_leave_from_a_table_without_their_operation(self, runner: Runner) -> None:
        """I11, R12: they lie in the document, so no index can lose them."""
        claim = runner.claimed(an_ask())
        runner.record(claim, messages=[Message("payments", b"paid")], retention_seconds=0, tombstone_seconds=0)
        runner.purge_all()
        assert runner.look_up(claim) is None
        [message] = runner.take_messages()
        runner.sent_messages(message)
        assert _items(runner.store, "document#") == []


class TestUse:
    def test_a_store_that_is_not_there_is_unavailable(self, credentials: None) -> None:
        """D1: and says so, without the address of anything secret."""
        store = DynamoDBStore(
            "gone", region="eu-central-1", endpoint="http://127.0.0.1:9", timeout=timedelta(seconds=1)
        )
        with pytest.raises(StoreUnavailable, match="Could not connect"):
            store.open()

    def test_it_is_opened_again_after_it_was_closed(self, runner: Runner) -> None:
        claim = runner.claimed(an_ask())
        runner.close()
        runner.close()
        assert runner.record(claim) == Written()

    def test_a_forked_child_has_connections_of_its_own(self, runner: Runner) -> None:
        claim = runner.claimed(an_ask())
        fork = multiprocessing.get_context("fork")
        recorded = fork.Event()
        child = fork.Process(target=_record, args=(runner, claim, recorded))
        child.start()
        assert recorded.wait(60)
        child.join(60)
        assert child.exitcode == 0
        assert runner.read(claim).outcome == b"by the child"

    def test_a_cancelled_caller_leaves_its_write_to_its_end(self, make: Make) -> None:
        """C7: what was submitted may be durable."""
        store = make()

        async def cancelled() -> None:
            await store.aopen()
            claiming = asyncio.ensure_future(store.arun(partial(store.verbs.claim, an_ask())))
            await asyncio.sleep(0)
            claiming.cancel()
            with pytest.raises(asyncio.CancelledError):
                await claiming
            await store.aclose()

        asyncio.run(cancelled())
        assert Runner(make(), "sync").look_up(an_ask()) is not None

    def test_a_url_names_a_table_and_how_to_reach_it(self, dynamodb: Service, credentials: None) -> None:
        store = from_url(f"dynamodb://tests-by-url?region=eu-central-1&endpoint={dynamodb.url}&margin=250ms&shards=2")
        assert store.traits.margin_seconds == 0.25
        store.open()
        store.close()

    @pytest.mark.parametrize(
        ("url", "problem"),
        [
            ("dynamodb://", "'' is no name of a table"),
            ("dynamodb://a/b", "'a/b' is no name of a table"),
            ("dynamodb://orders?regoin=x", "did you mean 'region'"),
            ("dynamodb://orders?margin=5", "write a number and its unit"),
            ("dynamodb://orders?margin=1h", "choose up to"),
            ("dynamodb://orders?shards=0", "choose 1 to 64"),
            ("dynamodb://orders?threads=0", "choose 1 or more"),
        ],
    )
    def test_a_url_that_is_wrong_says_what_is(self, url: str, problem: str) -> None:
        with pytest.raises(ConfigurationError, match=problem):
            from_url(url)


def _record(runner: Runner, claim: Any, recorded: Event) -> None:
    runner.record(claim, b"by the child")
    recorded.set()


def _secrets(meta: Any) -> tuple[bytes, bytes]:
    return meta.pepper, meta.fingerprint_secret


def _items(store: Any, prefix: str) -> list[dict[str, Any]]:
    pages = store._open().client.get_paginator("scan").paginate(TableName=store._table, ConsistentRead=True)
    return [item for page in pages for item in page["Items"] if item["pk"]["S"].startswith(prefix)]


def _parts(store: Any) -> int:
    return len([item for item in _items(store, "document#") if item["sk"]["S"].startswith("part#")])


def test_a_lock_that_was_held_at_a_fork_is_free_in_the_child(make: Make) -> None:
    """C1: and so are those of the verbs, which begin with nothing there."""
    store = make()
    numbers = store.verbs._numbers  # type: ignore[attr-defined]
    with store._lock:
        child = os.fork()
        if child == 0:
            os._exit(store._lock.locked() or store.verbs._numbers is numbers)  # type: ignore[attr-defined]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
