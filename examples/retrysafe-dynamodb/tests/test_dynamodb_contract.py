"""The DynamoDB store keeps the contract of stores, on an emulator."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from retrysafe.testing.clock import ManualClock
from retrysafe.testing.contract import OwnClockContract, StoreContract
from retrysafe.testing.runner import Runner
from retrysafe_dynamodb import DynamoDBStore
from tests.services.service import Service


@pytest.fixture
def table(dynamodb: Service, monkeypatch: pytest.MonkeyPatch) -> Callable[..., DynamoDBStore]:
    """Make stores on a table that nobody else has."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
    name = f"tests-{secrets.token_hex(8)}"
    return lambda **options: DynamoDBStore(name, region="eu-central-1", endpoint=dynamodb.url, shards=1, **options)


class TestDynamoDBStore(StoreContract):
    @pytest.fixture
    def runner(self, store: DynamoDBStore) -> Iterator[Runner]:
        """Go through the async face, which runs the sync one in a thread: so each promise is checked through both."""
        runner = Runner(store, "async")
        runner.open()
        yield runner
        runner.close()

    @pytest.fixture
    def store(self, table: Callable[..., DynamoDBStore], clock: ManualClock) -> DynamoDBStore:
        return table().with_clock(clock)


class TestDynamoDBStoreOnItsOwnClock(OwnClockContract):
    @pytest.fixture
    def store(self, table: Callable[..., DynamoDBStore]) -> DynamoDBStore:
        return table(margin=timedelta(seconds=1))
