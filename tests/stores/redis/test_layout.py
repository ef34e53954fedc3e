"""How checkpoints lie in Redis, and what they cost there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import partial
from struct import Struct
from typing import Any

import pytest
import redis as library
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from retrysafe.errors import RecordUnreadable
from retrysafe.protocol.model import Mode
from retrysafe.protocol.states import LEASED, State
from retrysafe.protocol.steps import PIVOT, StepKind, StepStatus
from retrysafe.protocol.verdicts import Claimed, InFlight
from retrysafe.stores.base import Query, Wanted
from retrysafe.stores.redis import RedisStore
from retrysafe.stores.redis.calls import BUCKETS, script
from retrysafe.stores.redis.layout import (
    BEFORE_INSTANTS,
    FRONT,
    LENGTHS,
    MODE_CODES,
    STATE_CODES,
    STATUS_CODES,
    pack,
    pack_id,
    unpack,
    unpack_id,
)
from retrysafe.testing.asks import a_memo, an_ask
from tests.services.redis_servers import until
from tests.stores.redis.tools import claimed, read, recording

COMMON = script("write").text
OUTCOME_BYTES = 1024


def as_lua(packed: Struct) -> str:
    """Write a format as the library in the server has it."""
    return packed.format.replace("I", "I4").replace("i", "i4")


def test_scripts_and_code_draw_the_same_picture() -> None:
    """S11."""
    assert f"FRONT = '{as_lua(FRONT)}'" in COMMON
    assert f"FRONT_BYTES, FRONT_AND_ID_BYTES = {FRONT.size}, {FRONT.size + 255}" in COMMON
    assert FRONT.format == BEFORE_INSTANTS.format + "d" * 8 + LENGTHS.format.removeprefix(">")
    [names] = re.findall(r"local (RUNNING[A-Z, ]*) = ([\d, ]*)", COMMON)
    codes = dict(zip(names[0].split(", "), map(int, names[1].split(", ")), strict=True))
    assert codes == {state.name: code for state, code in STATE_CODES.items()}


def test_what_is_stored_never_changes_its_number() -> None:
    """S11: whatever is added to the enumerations, and in whatever order they are."""
    assert [state.value for state in STATE_CODES] == [
        *("running", "streaming", "released", "undoing", "parked", "done", "undone", "expired")
    ]
    assert list(STATE_CODES.values()) == list(range(1, 9))
    assert {mode.value: code for mode, code in MODE_CODES.items()} == {
        "once": 1,
        "again": 2,
        "steps": 3,
        "transaction": 4,
    }
    assert {status.value: code for status, code in STATUS_CODES.items()} == {"intent": 1, "done": 2, "refused": 3}
    assert (set(STATE_CODES), set(MODE_CODES), set(STATUS_CODES)) == (set(State), set(Mode), set(StepStatus))
    assert {state for state, code in STATE_CODES.items() if code < 3 or state is State.UNDOING} == LEASED


@given(st.one_of(st.uuids().map(str), st.text(max_size=40).filter(lambda text: not text.endswith("\0"))))
def test_every_id_comes_back_as_it_was(text: str) -> None:
    """S11: UUIDs in half of their size, and anything else whole."""
    assert unpack_id(pack_id(text)) == text


def test_a_uuid_takes_sixteen_bytes() -> None:
    assert len(pack_id("01900000-0000-7000-8000-000000000001")) == 16
    assert len(pack_id("01900000-0000-7000-8000-00000000000A")) == 36


def a_record(store: RedisStore, sight: library.Redis, digest: bytes) -> tuple[bytes, bytes]:
    key = store.keys.bucket(digest).checkpoint + digest
    found: Any = sight.get(key)
    return key, found


def test_a_checkpoint_is_the_same_after_it_was_packed_again(store: RedisStore, sight: library.Redis) -> None:
    """S11: but for its revision."""
    claim = claimed(store, an_ask(mode=Mode.STEPS, request=b""))
    store.run(lambda: store.verbs.memoize(claim, a_memo(PIVOT, kind=StepKind.PIVOT, status=StepStatus.DONE)))
    store.run(lambda: store.verbs.begin_undo(claim, "Ä ☂", None))
    _, record = a_record(store, sight, claim.digest)
    met = unpack(record, claim.digest, 1.0)
    assert met.row.pivoted
    again = unpack(pack(met), claim.digest, 1.0)
    assert (again.row, again.id, again.revision) == (met.row, met.id, met.revision + 1)


@pytest.mark.parametrize("damage", [b"\x02", b"\x01\x09", b"\x01\x01\x09"], ids=["layout", "state", "mode"])
def test_what_a_newer_version_wrote_is_refused_and_not_run(
    store: RedisStore, sight: library.Redis, damage: bytes
) -> None:
    """S11."""
    claim = claimed(store, an_ask(lease_seconds=0.001, mode=Mode.AGAIN))
    key, record = a_record(store, sight, claim.digest)
    sight.set(key, damage + record[len(damage) :])
    for act in (partial(store.verbs.claim, an_ask()), partial(store.verbs.read, claim.digest)):
        with pytest.raises(RecordUnreadable):
            store.run(act)


def test_a_scan_goes_on_with_what_it_can_read(store: RedisStore, sight: library.Redis) -> None:
    """S11, R2: what a newer version wrote is for processes of that version."""
    claim = claimed(store, an_ask(lease_seconds=0.001, mode=Mode.AGAIN))
    others = [claimed(store, an_ask(f"key-{number}", lease_seconds=0.001, mode=Mode.AGAIN)) for number in range(3)]
    key, record = a_record(store, sight, claim.digest)
    sight.set(key, b"\x02" + record[1:])
    until(lambda: len(store.query(partial(store.verbs.abandoned, 10))) == 3)
    told = store.run(partial(store.verbs.dispatch, Wanted("tests", frozenset(Mode)), 10))
    assert [met.operation_id for met in told] == [other.operation_id for other in others]
    assert len(store.query(partial(store.verbs.listing, Query()))) == 3
    with pytest.raises(RecordUnreadable):
        store.run(recording(store, claim))


def test_everything_of_an_operation_lies_in_one_slot_and_under_the_prefix(
    store: RedisStore, sight: library.Redis
) -> None:
    """C1: so that one script may touch all of it in a Cluster."""
    claim = claimed(store, an_ask(mode=Mode.STEPS))
    store.run(lambda: store.verbs.memoize(claim, a_memo()))
    store.run(recording(store, claim))
    tag = store.keys.bucket(claim.digest).checkpoint.removesuffix(b"c")
    found: Any = sight.keys(tag.replace(b"{", b"\\{") + b"*")
    names = sorted([b"c" + claim.digest, b"closed", b"m" + claim.digest])
    assert sorted(key.removeprefix(tag) for key in found if not key.endswith(b"meta")) == names
    assert len({bucket.audit for bucket in store.keys.buckets}) == BUCKETS


def test_a_checkpoint_costs_its_payload_and_a_few_hundred_bytes(
    store: RedisStore, sight: library.Redis, figure: Callable[[str], None]
) -> None:
    """Measured from outside: keys, indexes and all."""
    number = 2000

    def used() -> int:
        told: Any = sight.info("memory")
        return int(told["used_memory_dataset"])

    async def fill() -> tuple[int, int]:
        asks = [an_ask(f"key-{each}") for each in range(number)]
        verdicts = await asyncio.gather(*(store.arun(partial(store.verbs.claim, ask)) for ask in asks))
        opened = used()
        claims = [verdict.claim for verdict in verdicts if isinstance(verdict, Claimed)]
        await asyncio.gather(*(store.arun(recording(store, claim, bytes(OUTCOME_BYTES))) for claim in claims))
        await store.aclose()
        return opened, used()

    before = used()
    opened, done = ((after - before) / number for after in asyncio.run(fill()))
    figure(f"Redis: {opened:.0f} B per open checkpoint, {done:.0f} B with an outcome of {OUTCOME_BYTES} B")
    assert opened < 700
    assert done < OUTCOME_BYTES + 900


def test_a_take_over_is_refused_when_somebody_wrote_meanwhile(store: RedisStore) -> None:
    """C4, C6: a renewal that comes between the look and the write saves the lease."""
    claim = claimed(store, an_ask(lease_seconds=0.001, mode=Mode.AGAIN))
    while read(store, claim).lease_remaining_seconds > 0:
        pass
    program = store.verbs.claim(an_ask(mode=Mode.AGAIN))
    statement = next(program)
    statement = program.send(store._fetch(statement))
    assert statement.parameters[0].script == "swap"
    store.run(lambda: store.verbs.renew([replace(claim, lease_seconds=60.0)]))
    assert store._fetch(statement).rows == [[0]]
    assert isinstance(store.run(lambda: store.verbs.claim(an_ask(mode=Mode.AGAIN))), InFlight)
