"""Pairs of a claim and a record, as many at once as are wanted, by threads or by tasks."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from threading import Barrier

from retrysafe.cli.complaints import Complaint
from retrysafe.protocol.effects import Receipt, Written
from retrysafe.protocol.encoding import encode_outcome
from retrysafe.protocol.fingerprint import FingerprintRules, Secret, fingerprint
from retrysafe.protocol.model import Ask, Claim, Identity, Limits, Mode, Outcome
from retrysafe.protocol.verdicts import Claimed, Verdict
from retrysafe.runtime.clock import uuid7
from retrysafe.stores.base import Verbs
from retrysafe.stores.program import Program
from retrysafe.stores.urls import AnyStore

NAME = "retrysafe store bench"
"""Name of every operation that is made here, and its namespace."""

KEPT_SECONDS = 1.0
"""How long they are kept; then a purge may have them, whoever runs it."""

# Random, so that nothing on the way can compress it.
_OUTCOME = encode_outcome(Outcome(201, ((b"content-type", b"text/plain"),), secrets.token_hex(512).encode()))
_LEASE_SECONDS = 30.0
_FINGERPRINT = fingerprint(
    method="POST",
    path=b"/bench",
    query=b"",
    media_type="text/plain",
    headers=(),
    body=b"",
    rules=FingerprintRules(),
    secrets=[Secret.of(b"for measurements only, 32 bytes.")],
)


@dataclass
class Pairs:
    """What was made, and how long it took.

    Attributes:
        waits: seconds of each pair.
        seconds: from the first to the last.
        cpu_seconds: processor time of this process.
    """

    waits: list[float] = field(default_factory=list[float])
    seconds: float = 0.0
    cpu_seconds: float = 0.0


def in_threads(store: AnyStore, at_once: int, most: int, seconds: float) -> Pairs:
    """Make pairs through the sync face, in as many threads, until there are enough or the time is over."""
    made, work = Pairs(), _work(most)
    store.open()
    # Connections, threads and prepared statements are not what is measured.
    for ask in _work(at_once):
        _pair(store, ask)
    begin = Barrier(at_once + 1)

    def one() -> None:
        begin.wait()
        ends_at = time.perf_counter() + seconds
        for ask in work:
            begun = time.perf_counter()
            _pair(store, ask)
            ended = time.perf_counter()
            made.waits.append(ended - begun)
            if ended > ends_at:
                return

    try:
        with ThreadPoolExecutor(at_once) as threads:
            running = [threads.submit(one) for _ in range(at_once)]
            begin.wait()
            begun, cpu = time.perf_counter(), time.process_time()
            for each in running:
                each.result()
            made.seconds, made.cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu
    finally:
        store.close()
    return made


def in_tasks(store: AnyStore, at_once: int, most: int, seconds: float) -> Pairs:
    """Make pairs through the async face, in as many tasks of one event loop."""
    return asyncio.run(_in_tasks(store, at_once, most, seconds))


async def _in_tasks(store: AnyStore, at_once: int, most: int, seconds: float) -> Pairs:
    made, work = Pairs(), _work(most)
    await store.aopen()
    try:
        await asyncio.gather(*(_apair(store, ask) for ask in _work(at_once)))
        begun, cpu = time.perf_counter(), time.process_time()

        async def one() -> None:
            for ask in work:
                sent = time.perf_counter()
                await _apair(store, ask)
                ended = time.perf_counter()
                made.waits.append(ended - sent)
                if ended > begun + seconds:
                    return

        async with asyncio.TaskGroup() as tasks:
            for _ in range(at_once):
                tasks.create_task(one())
        made.seconds, made.cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu
    finally:
        await store.aclose()
    return made


def _work(count: int) -> Iterator[Ask]:
    """Make asks in advance; threads take them from one list."""
    return iter([_an_ask() for _ in range(count)])


def _an_ask() -> Ask:
    return Ask(
        identity=Identity(digest=secrets.token_bytes(16), namespace=NAME, principal="bench", key_hint="bench"),
        fingerprint=_FINGERPRINT,
        attempt_id=uuid7(),
        name=NAME,
        mode=Mode.ONCE,
        lease_seconds=_LEASE_SECONDS,
        tombstone_seconds=KEPT_SECONDS,
        limits=Limits(1),
        backoff_seconds=0.0,
        request=None,
    )


def _pair(store: AnyStore, ask: Ask) -> None:
    claim = _claim_of(store.run(partial(store.verbs.claim, ask)))
    _is_written(store.run(partial(recording, store.verbs, claim)))


async def _apair(store: AnyStore, ask: Ask) -> None:
    claim = _claim_of(await store.arun(partial(store.verbs.claim, ask)))
    _is_written(await store.arun(partial(recording, store.verbs, claim)))


def recording(verbs: Verbs, claim: Claim) -> Program[Receipt]:
    """Make the program that records an outcome which is soon over."""
    return verbs.record(claim, _OUTCOME, retention_seconds=KEPT_SECONDS, tombstone_seconds=KEPT_SECONDS)


def _claim_of(verdict: Verdict) -> Claim:
    if isinstance(verdict, Claimed):
        return verdict.claim
    raise Complaint(
        "a claim of a new key was refused", facts=[f"it met {verdict}", "retrysafe store conformance says more"]
    )


def _is_written(receipt: Receipt) -> None:
    if not isinstance(receipt, Written):
        raise Complaint("the record of a claim was refused", facts=["retrysafe store conformance says more"])
