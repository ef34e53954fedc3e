"""Operations made of steps: forward from the memos, or back in reverse."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from retrysafe import (
    SHARED,
    AsyncOperation,
    Call,
    InProgress,
    NoEffect,
    OutcomeUnknown,
    Policy,
    Probe,
    Response,
    RetrySafe,
    State,
    SyncOperation,
    retry,
)
from retrysafe.protocol.model import Checkpoint
from retrysafe.protocol.operator import Intervention, Verb
from retrysafe.protocol.steps import History
from retrysafe.runtime.functions import GuardedFunction
from retrysafe.runtime.recovery import Scanner
from retrysafe.stores.base import Query
from retrysafe.stores.memory import MemoryStore
from retrysafe.testing.faults import FaultyStore, fail
from tests.runtime.rig import Time, until

KEY = "order-1"
DAY = timedelta(days=1)


class World:
    """Services that are called, and what they saw."""

    def __init__(self) -> None:
        self.effects: dict[str, str] = {}
        """By child key, what is in effect: a service that honours keys does nothing twice (I4)."""
        self.calls: list[tuple[str, str]] = []
        self.fail: dict[str, list[BaseException]] = {}
        self.after: dict[str, list[BaseException]] = {}

    def do(self, call: Call, what: str) -> str:
        self.calls.append((what, call.key))
        if self.fail.get(what):
            raise self.fail[what].pop(0)
        self.effects.setdefault(call.key, what)
        if self.after.get(what):
            raise self.after[what].pop(0)
        return f"{what} of {call.key[:4]}"

    def take_back(self, call: Call, what: str) -> None:
        self.calls.append((f"undo {what}", call.key))
        if self.fail.get(f"undo {what}"):
            raise self.fail[f"undo {what}"].pop(0)
        assert call.undoes is not None
        self.effects.pop(call.undoes, None)

    @property
    def done(self) -> list[str]:
        return [what for what, _ in self.calls]


WORLD = World()


def reserve(call: Call, sku: str) -> str:
    return WORLD.do(call, "reserve")


def release(call: Call, held: str | None, sku: str) -> None:
    assert sku == "book"
    WORLD.take_back(call, "reserve")


def charge(call: Call, cents: int) -> str:
    return WORLD.do(call, "charge")


def refund(call: Call, paid: str | None, cents: int) -> None:
    WORLD.take_back(call, "charge")


def ship(call: Call) -> str:
    return WORLD.do(call, "ship")


class Shop:
    """A guard with one operation, and time that moves by hand."""

    def __init__(self, function: Callable[..., Any], **policy: Any) -> None:
        self.time = Time(1_000_000.0)
        self.store = MemoryStore(clock=self.time)
        self.guard = RetrySafe(self.store, principal=SHARED, scan=None, sinks=())
        self.order: GuardedFunction = self.guard.operation("order", mode="steps", **policy)(function)
        engine = self.guard.engine()
        engine.keeper._started, engine.keeper._tick_seconds = True, 0.0
        engine.clock = engine.keeper._clock = self.time

    def scan(self) -> None:
        """Recover what is due, here and now."""
        engine = self.guard.engine()
        functions = {"order": self.order}
        scanner = Scanner(
            engine, self.guard.policy_of, (), namespace="default", interval_seconds=1.0, functions=functions
        )
        scanner._threads.submit = lambda function, *args: function(*args)  # type: ignore[method-assign,assignment]
        scanner.look()
        scanner.close()

    def scan_until_done(self) -> None:
        """The same, and wait for the thread of a function."""
        self.scan()
        until(lambda: self.met.state is State.DONE, "it is done")

    @property
    def met(self) -> Checkpoint:
        [met] = self.store.query(partial(self.store.verbs.listing, Query()))
        return met

    @property
    def trail(self) -> History:
        found = self.store.query(partial(self.store.verbs.trail, self.met.digest))
        assert found is not None
        return found


def order(op: SyncOperation, sku: str) -> Response:
    held = op.step(reserve, sku, undo=release, unknown=retry(key_retention=DAY))
    paid = op.step(charge, 1200, undo=refund, unknown=retry(key_retention=DAY))
    op.pivot()
    op.step(ship, unknown=retry(key_retention=DAY))
    return Response(201, {"held": held, "paid": paid})


@pytest.fixture(autouse=True)
def world() -> World:
    WORLD.__init__()  # type: ignore[misc]
    return WORLD


def test_each_step_runs_once_and_the_outcome_is_replayed() -> None:
    """R4, S2: and what a step gives is what its memo keeps."""
    shop = Shop(order)
    first = shop.order("book", key=KEY)
    again = shop.order("book", key=KEY)
    assert (first.status, again.body) == (201, first.body)
    assert again.header("Idempotent-Replayed") == "true"
    assert WORLD.done == ["reserve", "charge", "ship"]
    assert [(memo.name, memo.status) for memo in shop.trail.memos] == [
        ("reserve", "done"),
        ("charge", "done"),
        ("pivot", "done"),
        ("ship", "done"),
    ]


def test_a_failed_attempt_goes_on_from_its_memos_under_the_same_child_keys() -> None:
    """R4, R8: the client is told to come again, and in which phase the operation is."""
    shop = Shop(order)
    WORLD.after["charge"] = [ConnectionError("the answer was lost")]
    with pytest.raises(InProgress) as refused:
        shop.order("book", key=KEY)
    assert refused.value.phase == "retrying"
    assert shop.met.state is State.RUNNING
    shop.time.advance(60)
    answer = shop.order("book", key=KEY)
    assert answer.status == 201
    assert WORLD.done == ["reserve", "charge", "charge", "ship"]
    keys = [key for what, key in WORLD.calls if what == "charge"]
    assert keys[0] == keys[1]
    assert sorted(WORLD.effects.values()) == ["charge", "reserve", "ship"]


def test_a_client_does_not_hurry_what_backs_off() -> None:
    """R8, E: it hears when the next attempt is due."""
    shop = Shop(order)
    WORLD.fail["reserve"] = [ConnectionError()] * 3
    for _ in range(2):
        with pytest.raises(InProgress):
            shop.order("book", key=KEY)
    assert len(WORLD.calls) <= 2


def test_a_step_whose_outcome_is_unknown_parks_by_default() -> None:
    """R6."""

    def careless(op: SyncOperation) -> Response:
        op.step(charge, 1200)
        return Response(201)

    shop = Shop(careless)
    WORLD.after["charge"] = [ConnectionError()]
    with pytest.raises(InProgress):
        shop.order(key=KEY)
    shop.time.advance(60)
    with pytest.raises(OutcomeUnknown, match="charge"):
        shop.order(key=KEY)
    assert WORLD.done == ["charge"]
    assert shop.met.state is State.PARKED


@pytest.mark.parametrize(("found", "calls"), [("paid", 1), (Probe.NOT_HAPPENED, 2), (Probe.UNKNOWN, 1)])
def test_a_probe_decides_about_an_unknown_outcome(found: object, calls: int) -> None:
    """R6: happened, not, unknown."""

    def probed(op: SyncOperation) -> Response:
        paid = op.step(charge, 1200, unknown=Probe(lambda call, cents: found))
        return Response(201, paid)

    shop = Shop(probed)
    WORLD.after["charge"] = [ConnectionError()]
    with pytest.raises(InProgress):
        shop.order(key=KEY)
    shop.time.advance(60)
    if found is Probe.UNKNOWN:
        with pytest.raises(OutcomeUnknown):
            shop.order(key=KEY)
    else:
        assert shop.order(key=KEY).status == 201
    assert len(WORLD.calls) == calls


def test_a_service_is_not_called_again_after_it_may_have_forgotten_the_key() -> None:
    """R6: the retention cliff."""

    def short(op: SyncOperation) -> Response:
        op.step(charge, 1200, unknown=retry(key_retention=timedelta(minutes=1)))
        return Response(201)

    shop = Shop(short)
    WORLD.after["charge"] = [ConnectionError()]
    with pytest.raises(InProgress):
        shop.order(key=KEY)
    shop.time.advance(600)
    with pytest.raises(OutcomeUnknown, match="forgotten"):
        shop.order(key=KEY)
    assert WORLD.done == ["charge"]


def test_a_refusal_is_recorded_after_everything_was_undone_in_reverse() -> None:
    """R7, I6, I7: at once, and the first client gets the final answer."""

    def refused(op: SyncOperation, sku: str) -> Response:
        op.step(reserve, sku, undo=release)
        op.step(charge, 1200, undo=refund)
        return Response(422, {"error": "no"})

    shop = Shop(refused)
    answer = shop.order("book", key=KEY)
    assert (answer.status, shop.met.state) == (422, State.UNDONE)
    assert WORLD.done == ["reserve", "charge", "undo charge", "undo reserve"]
    assert WORLD.effects == {}
    assert shop.order("book", key=KEY).body == answer.body


def test_a_step_may_refuse_for_good() -> None:
    """R5: it had no effect, so there is nothing to undo of it; and it refuses the same way ever after."""

    def declined(op: SyncOperation, sku: str) -> Response:
        op.step(reserve, sku, undo=release)
        op.step(charge, 1200, undo=refund)
        raise AssertionError("never here")

    shop = Shop(declined)
    WORLD.fail["charge"] = [NoEffect(Response(402, {"error": "declined"}))]
    answer = shop.order("book", key=KEY)
    assert (answer.status, shop.met.state) == (402, State.UNDONE)
    assert WORLD.done == ["reserve", "charge", "undo reserve"]


def test_spent_attempts_are_undone_where_that_was_asked_for() -> None:
    """R7, R8: and the client hears that a new key is safe."""
    shop = Shop(order, attempts=2, spent="undo")
    WORLD.fail["charge"] = [ConnectionError()] * 9
    with pytest.raises(InProgress):
        shop.order("book", key=KEY)
    shop.time.advance(60)
    shop.scan()
    answer = shop.order("book", key=KEY)
    assert (answer.status, shop.met.state) == (409, State.UNDONE)
    assert b"operation-undone" in answer.body
    assert WORLD.effects == {}


def test_spent_attempts_are_parked_otherwise() -> None:
    """R8."""
    shop = Shop(order, attempts=2)
    WORLD.fail["charge"] = [ConnectionError()] * 9
    with pytest.raises(InProgress):
        shop.order("book", key=KEY)
    shop.time.advance(60)
    with pytest.raises(OutcomeUnknown, match="every allowed attempt"):
        shop.order("book", key=KEY)


def test_a_failing_undo_is_tried_again_and_none_is_called_twice_in_vain() -> None:
    """R7: each undo is memoized under its own child key."""

    def refused(op: SyncOperation, sku: str) -> Response:
        op.step(reserve, sku, undo=release)
        op.step(charge, 1200, undo=refund)
        return Response(409)

    shop = Shop(refused)
    WORLD.fail["undo reserve"] = [ConnectionError()]
    with pytest.raises(InProgress) as undoing:
        shop.order("book", key=KEY)
    assert undoing.value.phase == "undoing"
    shop.time.advance(60)
    shop.scan()
    assert shop.order("book", key=KEY).status == 409
    assert WORLD.done == ["reserve", "charge", "undo charge", "undo reserve", "undo reserve"]
    assert shop.met.state is State.UNDONE


def test_nothing_is_undone_past_the_pivot() -> None:
    """R7."""
    shop = Shop(order, attempts=1, spent="undo")
    WORLD.fail["ship"] = [ConnectionError()]
    with pytest.raises(OutcomeUnknown):
        shop.order("book", key=KEY)
    assert shop.met.state is State.PARKED
    assert sorted(WORLD.effects.values()) == ["charge", "reserve"]


def test_undoing_waits_until_a_dead_attempt_s_call_can_no_longer_land() -> None:
    """R7: the call of a dead attempt may be under way for as long as its time-out."""

    def slow(op: SyncOperation, sku: str) -> Response:
        op.step(reserve, sku, undo=release, timeout=timedelta(seconds=100))
        return Response(409)

    shop = Shop(slow, attempts=1, spent="undo")
    WORLD.after["reserve"] = [SystemExit()]
    with pytest.raises(SystemExit):
        shop.order("book", key=KEY)
    shop.guard.engine().keeper._live.clear()
    shop.time.advance(20)
    shop.scan()
    assert str(shop.met.state) == "undoing"
    assert "undo reserve" not in WORLD.done
    # Its time-out, and the lease, within which the call may have begun.
    shop.time.advance(96)
    shop.scan()
    assert shop.met.state is State.UNDONE
    assert WORLD.effects == {}


def test_undoing_waits_for_a_dead_attempt_s_call_even_when_the_step_was_repeated_since() -> None:
    """R7, I9: the repeated call has returned, and the first one may still be under way."""

    def refused(op: SyncOperation, sku: str) -> Response:
        op.step(reserve, sku, undo=release, unknown=retry(key_retention=DAY), timeout=timedelta(seconds=100))
        return Response(409)

    shop = Shop(refused)
    WORLD.after["reserve"] = [SystemExit()]
    with pytest.raises(SystemExit):
        shop.order("book", key=KEY)
    shop.guard.engine().keeper._live.clear()
    shop.time.advance(20)
    with pytest.raises(InProgress) as undoing:
        shop.order("book", key=KEY)
    assert undoing.value.phase == "undoing"
    assert WORLD.done == ["reserve", "reserve"]
    shop.time.advance(120)
    assert shop.order("book", key=KEY).status == 409
    assert WORLD.effects == {}


def test_what_has_passed_its_pivot_can_be_resumed_when_its_attempts_are_spent() -> None:
    """R7, R8, R10: it is parked as it was, and not as something that is undone."""
    shop = Shop(order, attempts=1, spent="undo")
    WORLD.after["ship"] = [SystemExit()]
    with pytest.raises(SystemExit):
        shop.order("book", key=KEY)
    shop.guard.engine().keeper._live.clear()
    shop.time.advance(20)
    shop.scan()
    assert (str(shop.met.state), shop.met.undoing) == ("parked", False)
    resumed = Intervention(Verb.RESUME, "alice", "the carrier is back")
    shop.store.run(partial(shop.store.verbs.intervene, shop.met, resumed))
    shop.scan_until_done()
    assert shop.met.state is State.DONE
    assert sorted(WORLD.effects.values()) == ["charge", "reserve", "ship"]


def test_nothing_is_undone_while_a_call_of_the_same_attempt_runs() -> None:
    """R7, I9: a step beside the refused one has not returned; it is undone once it can no longer land."""
    begun, gate = asyncio.Event(), asyncio.Event()

    async def slow(call: Call, sku: str) -> str:
        begun.set()
        await gate.wait()
        return WORLD.do(call, "reserve")

    async def refuse(call: Call) -> None:
        await begun.wait()
        raise NoEffect(Response(402))

    async def both(op: AsyncOperation, sku: str) -> Response:
        await asyncio.gather(
            op.step(slow, sku, undo=release, name="reserve"), op.step(refuse, unknown=retry(key_retention=DAY))
        )
        return Response(201)

    shop = Shop(both)

    async def run() -> None:
        with pytest.raises(InProgress) as undoing:
            await shop.order("book", key=KEY)
        assert undoing.value.phase == "undoing"
        assert "undo reserve" not in WORLD.done
        gate.set()
        await asyncio.sleep(0)

    asyncio.run(run())
    shop.time.advance(60)
    shop.scan()
    assert shop.met.state is State.UNDONE
    assert WORLD.effects == {}


def test_a_probe_is_not_believed_while_the_call_may_still_land() -> None:
    """R6, I4: "not happened" may be true now and false in a moment."""
    calls: list[int] = []

    def slow(op: SyncOperation) -> Response:
        def step(call: Call) -> str:
            calls.append(op.attempt)
            return WORLD.do(call, "charge")

        probe = Probe(lambda call: Probe.NOT_HAPPENED)
        op.step(step, unknown=probe, timeout=timedelta(seconds=100))
        return Response(201)

    shop = Shop(slow)
    WORLD.fail["charge"] = [SystemExit()]
    with pytest.raises(SystemExit):
        shop.order(key=KEY)
    shop.time.advance(20)
    with pytest.raises(InProgress):
        shop.order(key=KEY)
    assert calls == [1]
    shop.time.advance(120)
    assert shop.order(key=KEY).status == 201
    assert len(calls) == 2


def test_a_step_that_was_taken_back_as_an_orphan_is_not_taken_for_done() -> None:
    """I5: the code that has it came back after it was undone."""
    shop = Shop(order, orphans="undo")
    WORLD.fail["charge"] = [ConnectionError()]
    with pytest.raises(InProgress):
        shop.order("book", key=KEY)
    shop.time.advance(60)

    def without(op: SyncOperation, sku: str) -> Response:
        WORLD.fail["record"] = []
        return Response(201)

    shop.order.function = without
    faulty = FaultyStore(shop.store, fail("record", when="before", error=lambda: ValueError("a defect")))
    engine = shop.guard.engine()
    engine.sync, engine.aio = faulty, faulty
    with pytest.raises(ValueError, match="a defect"):
        shop.order("book", key=KEY)
    engine.sync = engine.aio = shop.store
    assert WORLD.effects == {}
    shop.order.function = order
    shop.time.advance(60)
    with pytest.raises(OutcomeUnknown, match="taken back"):
        shop.order("book", key=KEY)


def test_a_message_may_not_be_sent_inside_an_external_step() -> None:
    """R12, I11: a later attempt would find the memo, and not send it."""

    def telling(op: SyncOperation) -> Response:
        def step(call: Call) -> None:
            op.send("charged", {})

        op.step(step)
        return Response(201)

    shop = Shop(telling, attempts=1)
    with pytest.raises(OutcomeUnknown, match="ConfigurationError"):
        shop.order(key=KEY)


def test_a_claim_whose_code_was_cut_off_is_left_to_its_lease() -> None:
    """C7: nobody keeps it alive."""

    def dying(op: SyncOperation) -> Response:
        raise SystemExit

    shop = Shop(dying)
    with pytest.raises(SystemExit):
        shop.order(key=KEY)
    assert list(shop.guard.engine().keeper.claims()) == []


def test_the_same_key_inside_its_own_operation_joins_it() -> None:
    """K9."""
    calls: list[str] = []

    def nested(op: SyncOperation) -> Response:
        calls.append(op.id)
        return Response(201) if len(calls) > 1 else shop.order(key=KEY)

    shop = Shop(nested)
    assert shop.order(key=KEY).status == 201
    assert len(calls) == 2


def test_the_same_name_twice_needs_an_index() -> None:
    """R4."""

    def twice(op: SyncOperation) -> Response:
        op.step(charge, 1)
        op.step(charge, 2)
        return Response(201)

    def loop(op: SyncOperation) -> Response:
        return Response(201, [op.step(charge, cents, index=cents) for cents in range(3)])

    shop = Shop(twice)
    with pytest.raises(InProgress):
        shop.order(key=KEY)
    assert WORLD.done == ["charge"]
    assert Shop(loop).order(key=KEY).status == 201
    assert len({key for _, key in WORLD.calls}) == 4


def test_an_orphan_parks_is_undone_or_kept() -> None:
    """R4: a version that does not come by a step that was begun."""
    for orphans, state, effects in (
        ("park", State.PARKED, ["reserve"]),
        ("undo", State.DONE, []),
        ("keep", State.DONE, ["reserve"]),
    ):
        WORLD.__init__()  # type: ignore[misc]
        old = Shop(order, orphans=orphans)
        WORLD.fail["charge"] = [ConnectionError()]
        with pytest.raises(InProgress):
            old.order("book", key=KEY)
        old.time.advance(60)

        def without(op: SyncOperation, sku: str) -> Response:
            return Response(201)

        old.order.function = without
        if state is State.PARKED:
            with pytest.raises(OutcomeUnknown, match="reserve"):
                old.order("book", key=KEY)
        else:
            assert old.order("book", key=KEY).status == 201
        assert old.met.state is state
        assert list(WORLD.effects.values()) == effects


def test_a_new_version_adds_and_reorders_steps_without_breaking_what_is_in_flight() -> None:
    """R4: memos are found by name; and the code can ask by which version an operation was begun."""
    seen: list[int] = []

    def first(op: SyncOperation, sku: str) -> Response:
        op.step(reserve, sku, undo=release)
        op.step(charge, 1200, undo=refund, unknown=retry(key_retention=DAY))
        return Response(201, "first")

    def second(op: SyncOperation, sku: str) -> Response:
        seen.append(op.version)
        op.step(charge, 1200, undo=refund, unknown=retry(key_retention=DAY))
        op.step(reserve, sku, undo=release)
        if op.version > 1:
            raise AssertionError("begun by the old version")
        op.step(ship, unknown=retry(key_retention=DAY))
        return Response(201, "second")

    shop = Shop(first)
    WORLD.after["charge"] = [ConnectionError()]
    with pytest.raises(InProgress):
        shop.order("book", key=KEY)
    shop.time.advance(60)
    newer = shop.guard.operation("order", mode="steps", version=2)(second)
    answer = newer("book", key=KEY)
    assert (answer.status, answer.body, seen) == (201, b"second", [1])
    assert WORLD.done == ["reserve", "charge", "charge", "ship"]
    assert len(WORLD.effects) == 3


def test_values_that_must_not_change_are_the_same_in_every_attempt() -> None:
    """I8: and nobody can guess them from the operation id."""
    seen: list[tuple[Any, ...]] = []

    def values(op: SyncOperation) -> Response:
        seen.append((op.now(), op.uuid("a"), op.random("a"), op.uuid("b"), op.version))
        if len(seen) < 2:
            raise ConnectionError
        return Response(201)

    shop = Shop(values)
    with pytest.raises(InProgress):
        shop.order(key=KEY)
    shop.time.advance(60)
    shop.order(key=KEY)
    assert seen[0] == seen[1]
    assert seen[0][1] != seen[0][3]
    assert 0 <= seen[0][2] < 1


def test_coroutines_have_the_same_names() -> None:
    """R4–R7, on an event loop; a plain step runs in a thread."""

    async def areserve(call: Call, sku: str) -> str:
        await asyncio.sleep(0)
        return WORLD.do(call, "reserve")

    async def aorder(op: AsyncOperation, sku: str) -> Response:
        held = await op.step(areserve, sku, undo=release, name="reserve")
        await op.step(charge, 1200, undo=refund)
        return Response(409, held)

    shop = Shop(aorder)

    async def twice() -> tuple[Response, Response]:
        return await shop.order("book", key=KEY), await shop.order("book", key=KEY)

    first, again = asyncio.run(twice())
    assert (first.status, first.body) == (409, again.body)
    assert WORLD.done == ["reserve", "charge", "undo charge", "undo reserve"]


def test_a_step_may_not_swallow_its_own_end() -> None:
    """R6: whatever the code does after a step has parked it, it is parked."""

    def stubborn(op: SyncOperation) -> Response:
        try:
            op.step(charge, 1200)
        except ConnectionError:
            raise
        except BaseException:  # noqa: BLE001 - as careless code does
            return Response(201)
        return Response(201)

    shop = Shop(stubborn)
    WORLD.after["charge"] = [ConnectionError()]
    with pytest.raises(InProgress):
        shop.order(key=KEY)
    shop.time.advance(60)
    with pytest.raises(OutcomeUnknown, match="charge"):
        shop.order(key=KEY)
    assert WORLD.done == ["charge"]


def test_policy_refuses_what_cannot_be_undone() -> None:
    """Every problem with its fix."""
    with pytest.raises(Exception, match="no steps to undo"):
        Policy(mode="again", spent="undo")
