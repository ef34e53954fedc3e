"""Queues by URL: which there are, what is wrong with one, and what importing them costs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import msgspec
import pytest

from retrysafe.errors import ConfigurationError
from retrysafe.runtime.queues import Hint, open_queue
from retrysafe.runtime.queues.base import decode, encode, queue_name
from tests.queues.workers import put_all, some_hints, working

URLS = {
    "rabbitmq": "amqp://guest:secret@127.0.0.1:1/shop",
    "nats": "nats://shop:secret@127.0.0.1:1,127.0.0.1:2",
    "kafka": "kafka://127.0.0.1:1,127.0.0.1:2",
    "redis": "rediss://:secret@127.0.0.1:1/3",
}


@pytest.mark.parametrize("url", [*URLS.values(), "amqps://127.0.0.1:1", "tls://127.0.0.1:1", "memory://"])
def test_a_queue_is_made_by_its_url_and_connects_to_nothing(url: str) -> None:
    """R3: nothing happens before `start`."""
    assert open_queue(url, namespace="shop", parallel=3).healthy["connected"] is False


def test_memory_is_a_queue_without_a_broker() -> None:
    async def scene() -> None:
        hints = some_hints(3)
        async with working(open_queue("memory://")) as worker:
            await put_all(worker.queue, hints)
            await worker.has_taken(hints)

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("url", "fix"),
    [
        ("shop", "begins with its scheme"),
        ("mqtt://secret@broker", "write amqp://"),
        ("kafka://", "write kafka://host:port"),
        ("kafka://shop:secret@broker:9092", "security="),
        ("kafka://broker:9092/topic", "leave out what follows"),
        ("amqp://shop:secret#1@broker:port", "host:port"),
        ("redis://broker:secret", "host:port"),
        ("nats://broker:secret", "host:port"),
        ("nats://", "host:port"),
    ],
)
def test_a_wrong_url_is_refused_with_the_fix_and_not_repeated(url: str, fix: str) -> None:
    """K8: a URL may hold a password."""
    with pytest.raises(ConfigurationError, match=fix) as refused:
        open_queue(url)
    assert "secret" not in str(refused.value)


_LOADED = """
import json, sys
from retrysafe.runtime.queues import Hint, open_queue
open_queue("memory://")
print(json.dumps(sorted(sys.modules)))
"""


def test_without_a_broker_no_client_is_imported() -> None:
    """R3: a process that serves requests has none."""
    done = subprocess.run([sys.executable, "-c", _LOADED], capture_output=True, text=True, check=True)
    assert {"faststream", "aio_pika", "nats", "aiokafka", "redis"}.isdisjoint(json.loads(done.stdout))


_MISSING = """
import sys
sys.modules["faststream.{client}"] = None
from retrysafe.runtime.queues import open_queue
try:
    open_queue({url!r})
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize("extra", URLS)
def test_without_its_extra_the_error_names_it(extra: str) -> None:
    script = _MISSING.format(client="rabbit" if extra == "rabbitmq" else extra, url=URLS[extra])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert f"pip install 'retrysafe[{extra}]'" in done.stdout


def test_a_hint_is_json_that_a_person_can_read() -> None:
    hint = Hint(operation_id="019a-1", digest=bytes(range(16)), fence=3, reason="undoing")
    assert json.loads(encode(hint)) == {
        "operation_id": "019a-1",
        "digest": "AAECAwQFBgcICQoLDA0ODw==",
        "fence": 3,
        "reason": "undoing",
    }
    later = msgspec.json.encode({**json.loads(encode(hint)), "added": "by a later version"})
    assert decode(later) == decode(encode(hint)) == hint


@pytest.mark.parametrize("namespace", ["default", "shop.eu", "shop eu", "läden/1", "x" * 300, "*", ">", "a\nb", ""])
def test_each_namespace_has_a_queue_of_its_own_with_a_name_that_every_broker_allows(namespace: str) -> None:
    name = queue_name(namespace)
    assert name.startswith("retrysafe.hints.")
    assert len(name) < 100
    assert name.isascii()
    assert name.replace(".", "").replace("-", "").replace("_", "").isalnum()
    assert name.count(".") == 2
    assert queue_name("default") == "retrysafe.hints.default"
    assert queue_name("shop.eu") != queue_name("shop eu") != queue_name("shop-eu")
