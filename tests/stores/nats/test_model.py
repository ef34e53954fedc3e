"""The NATS store answers like the memory store, whatever happens, on a real server."""

from __future__ import annotations

import itertools
import os
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings

from retrysafe.stores.clock import HostClock
from retrysafe.stores.documents.verbs import DocumentVerbs
from retrysafe.stores.instants import HostInstants
from retrysafe.stores.nats import NatsStore
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.model import StoreMachine
from tests.services.service import Service

_buckets = itertools.count(1)


class NatsMachine(StoreMachine):
    face = "async"
    url: ClassVar[str] = ""

    def make_store(self, clock: ManualClock) -> NatsStore:
        store = NatsStore([self.url], bucket=f"model-{os.getpid()}-{next(_buckets)}")
        store.verbs = DocumentVerbs(HostInstants(HostClock(clock)))
        return store


@pytest.fixture(autouse=True)
def server(nats: Service) -> None:
    NatsMachine.url = nats.url


TestNatsModel = NatsMachine.TestCase
TestNatsModel.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
