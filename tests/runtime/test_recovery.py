"""Finding and settling what dead attempts left behind."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from retrysafe import OutcomeUnknown, Policy, RecordUnreadable, Response, State
from retrysafe.protocol import effects as fx
from retrysafe.protocol.effects import Flow
from retrysafe.protocol.model import Checkpoint, StoredRequest
from retrysafe.protocol.verdicts import ATTEMPTS_SPENT, LEASE_OVER_ONCE
from retrysafe.runtime import events
from retrysafe.runtime.backoff import CHANCE as _CHANCE
from retrysafe.runtime.backoff import backoff_seconds
from retrysafe.runtime.recovery import Rerun, Scanner
from retrysafe.runtime.runs import AsyncRun, Run
from retrysafe.testing.faults import fail
from tests.runtime.rig import AGAIN, CREATED, NAME, ONCE, Rig, nobody, returned, until

LEASE = ONCE.lease_seconds
LONGEST_BACKOFF = 300.0

Reply = Callable[[fx.Execute], fx.Reply]


def scanner(rig: Rig, *reruns: Rerun, policy: Policy = ONCE, seconds: float = 3600.0) -> Scanner:
    return Scanner(rig.engine, lambda _: policy, reruns, namespace="default", interval_seconds=seconds)


def surface(rig: Rig, reply: Reply) -> tuple[Rerun, list[object]]:
    """A surface that runs abandoned operations at once, on the scan's own thread."""
    answers: list[object] = []

    def rerun(seen: Checkpoint, _: StoredRequest, policy: Policy, flow: Flow[fx.Answer | None]) -> bool:
        run = Run(rig.engine, flow, policy, name=seen.name, stop=nobody)
        step = run.advance()
        if isinstance(step, fx.Execute):
            try:
                answers.append(run.advance(reply(step)))
            except OutcomeUnknown as error:
                answers.append(error)
        return True

    return rerun, answers


def succeed(_: fx.Execute) -> fx.Reply:
    return returned()


def die(_: fx.Execute) -> fx.Reply:
    raise SystemExit


def test_an_abandoned_once_operation_is_parked_and_never_run_again(rig: Rig) -> None:
    """R2, and the table of modes."""
    _, claim = rig.begin()
    rig.time.advance(LEASE)
    rerun, answers = surface(rig, succeed)
    scan = scanner(rig, rerun)
    assert (scan.look(), scan.look()) == (1, 0)
    met = rig.checkpoint()
    assert (met.state, met.reason, met.fence) == (State.PARKED, LEASE_OVER_ONCE, claim.fence)
    assert answers == []
    assert len(rig.events.of(events.Parked)) == 1


def test_who_waits_for_an_operation_hears_that_it_was_parked(rig: Rig) -> None:
    """S9, C6."""
    rig.begin()
    run = rig.run(ONCE, wait_seconds=60.0)
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            run.advance()
        except OutcomeUnknown as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: rig.engine.waiters._count, "it waits")
    rig.time.advance(LEASE)
    scanner(rig).look()
    thread.join()
    assert [type(error) for error in caught] == [OutcomeUnknown]


def test_an_operation_in_flight_is_left_alone(rig: Rig) -> None:
    """C1, C5."""
    rig.begin()
    rig.time.advance(LEASE - 0.001)
    assert scanner(rig).look() == 0


def test_an_abandoned_again_operation_is_run_again_and_a_later_client_replays(rig: Rig) -> None:
    """R2, R13."""
    _, first = rig.begin(AGAIN)
    rig.time.advance(LEASE)
    rerun, answers = surface(rig, succeed)
    assert scanner(rig, rerun, policy=AGAIN).look() == 1
    assert answers == [fx.Fresh(CREATED)]
    assert [event.attempt for event in rig.events.of(events.Recovered)] == [2]
    assert rig.run(AGAIN).advance() == fx.Replayed(first.operation_id, CREATED)
    assert rig.checkpoint().request is None


def test_of_two_scans_that_see_the_same_operation_one_runs_it(rig: Rig) -> None:
    """R1."""
    rig.begin(AGAIN)
    rig.time.advance(LEASE)
    seen = rig.checkpoint()
    effects: list[fx.Execute] = []

    def count(step: fx.Execute) -> fx.Reply:
        effects.append(step)
        return returned()

    rerun, answers = surface(rig, count)
    scans = [scanner(rig, rerun, policy=AGAIN) for _ in range(2)]
    for scan in scans:
        scan._settle(seen, AGAIN)
    assert len(effects) == 1
    assert answers == [fx.Fresh(CREATED)]


def test_without_anybody_to_run_it_an_again_operation_waits_for_its_client(rig: Rig) -> None:
    """R13: without ``restore_principal`` only the retrying client resumes."""
    rig.begin(AGAIN)
    rig.time.advance(LEASE)
    not_ready: Rerun = lambda seen, request, policy, flow: False  # noqa: E731 - a surface in one line
    assert scanner(rig, policy=AGAIN).look() == 0
    assert scanner(rig, not_ready, policy=AGAIN).look() == 1
    assert rig.checkpoint().fence == 1
    _, claim = rig.begin(AGAIN)
    assert (claim.fence, claim.attempt) == (2, 2)


def test_operations_that_wait_for_their_client_do_not_hide_the_others(rig: Rig) -> None:
    """However many there are: every operation is final or parked within bounds (R2)."""
    for number in range(250):
        rig.claim(AGAIN, str(number))
    rig.time.advance(1)
    rig.claim(ONCE, "behind them")
    rig.time.advance(LEASE)
    scan = scanner(rig)
    for _ in range(5):
        scan.look()
    assert rig.checkpoint("behind them").state is State.PARKED


def test_a_re_run_that_is_refused_as_unauthenticated_parks(rig: Rig) -> None:
    """The principal cannot be restored; running it again would change nothing (R13)."""
    for status in (401, 403):
        key = str(status)
        rig.begin(AGAIN, key)
        rig.time.advance(LEASE)
        rerun, answers = surface(rig, lambda _, status=status: returned(Response(status)))  # type: ignore[misc]
        scanner(rig, rerun, policy=AGAIN).look()
        assert [type(answer) for answer in answers] == [OutcomeUnknown]
        assert rig.checkpoint(key).state is State.PARKED
        assert rig.checkpoint(key).reason == f"the re-run was refused with status {status}"


def test_a_client_that_is_refused_as_unauthenticated_does_not_park(rig: Rig) -> None:
    """S3: nothing was done, in mode again."""
    run, _ = rig.begin(AGAIN)
    run.advance(returned(Response(401)))
    assert rig.checkpoint().state is State.RELEASED


def test_an_operation_whose_attempts_all_die_is_parked_after_the_cap(rig: Rig) -> None:
    """A segfaulting operation cannot loop (R8)."""
    policy = Policy(mode="again", attempts=4)
    rig.begin(policy)
    rerun, _ = surface(rig, die)
    scan = scanner(rig, rerun, policy=policy)
    for _ in range(3):
        rig.time.advance(LEASE + LONGEST_BACKOFF)
        with pytest.raises(SystemExit):
            scan.look()
    rig.time.advance(LEASE + LONGEST_BACKOFF)
    assert scan.look() == 1
    met = rig.checkpoint()
    assert (met.state, met.reason, met.deaths, met.attempt) == (State.PARKED, ATTEMPTS_SPENT, 4, 4)
    with pytest.raises(OutcomeUnknown):
        rig.run(policy).advance()


def test_clients_are_counted_against_the_same_cap(rig: Rig) -> None:
    """R8."""
    policy = Policy(mode="again", attempts=2)
    for _ in range(2):
        rig.begin(policy)
        rig.time.advance(LEASE)
    with pytest.raises(OutcomeUnknown):
        rig.run(policy).advance()


def test_after_a_second_death_the_scan_leaves_an_operation_alone_for_a_while(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R8."""
    monkeypatch.setattr(_CHANCE, "uniform", lambda _, high: high)
    rig.begin(AGAIN)
    rerun, _ = surface(rig, die)
    scan = scanner(rig, rerun, policy=AGAIN)
    rig.time.advance(LEASE)
    with pytest.raises(SystemExit):
        scan.look()
    rig.time.advance(LEASE)
    backoff = backoff_seconds(1)
    assert backoff == 2.0
    assert scan.look() == 0
    rig.time.advance(backoff - 0.001)
    assert scan.look() == 0
    rig.time.advance(0.001)
    with pytest.raises(SystemExit):
        scan.look()


def test_the_backoff_is_jittered_doubles_and_ends_at_five_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """R8."""
    drawn = [backoff_seconds(3) for _ in range(200)]
    assert all(0 <= seconds <= 8 for seconds in drawn)
    assert len(set(drawn)) > 100
    monkeypatch.setattr(_CHANCE, "uniform", lambda low, high: high)
    assert [backoff_seconds(deaths) for deaths in range(1, 5)] == [2, 4, 8, 16]
    assert backoff_seconds(9) == backoff_seconds(10_000) == 300


def test_one_operation_that_cannot_be_recovered_does_not_keep_the_others_from_it(rig: Rig) -> None:
    """It is told, and tried again with the next look (R2)."""

    def unreadable(seen: Checkpoint, request: StoredRequest, policy: Policy, flow: Flow[fx.Answer | None]) -> bool:
        raise RecordUnreadable("unknown record format ff")

    rig.begin(AGAIN, "a")
    rig.begin(ONCE, "b")
    rig.time.advance(LEASE)
    assert scanner(rig, unreadable).look() == 2
    assert rig.checkpoint("b").state is State.PARKED
    assert [(event.name, event.doing) for event in rig.events.of(events.StoreFailed)] == [(NAME, "recover")]


def test_a_surface_that_breaks_does_not_end_the_scan(rig: Rig) -> None:
    """R2: a process that no longer looks would leave operations abandoned in silence."""

    def broken(seen: Checkpoint, request: StoredRequest, policy: Policy, flow: Flow[fx.Answer | None]) -> bool:
        raise RuntimeError("cannot schedule new futures after shutdown")

    rig.begin(AGAIN, "a")
    rig.begin(ONCE, "b")
    rig.time.advance(LEASE)
    scan = scanner(rig, broken, seconds=0.001)
    scan.start()
    until(lambda: rig.checkpoint("b").state is State.PARKED, "the other is parked all the same")
    scan.close()
    assert "recover" in {event.doing for event in rig.events.of(events.StoreFailed)}


def test_a_scan_outlives_an_outage_of_the_store(rig: Rig) -> None:
    """R2."""
    rig.begin()
    rig.time.advance(LEASE)
    rig.store.plan(fail("dispatch"))
    scan = scanner(rig, seconds=0.001)
    scan.start()
    until(lambda: len(rig.events.of(events.StoreFailed)) >= 3, "it tries again")
    assert {event.doing for event in rig.events.of(events.StoreFailed)} == {"scan"}
    rig.store.heal()
    until(lambda: rig.checkpoint().state is State.PARKED, "it goes on when the store is back")
    scan.close()


def test_closing_waits_for_the_thread(rig: Rig) -> None:
    scan = scanner(rig, seconds=0.001)
    scan.start()
    scan.close()
    assert not scan._thread.is_alive()
    scanner(rig).close()


def test_a_closed_scan_settles_nothing_more(rig: Rig) -> None:
    """C7."""
    rig.begin()
    rig.time.advance(LEASE)
    scan = scanner(rig)
    scan._closed.set()
    scan.look()
    assert rig.checkpoint().state is State.RUNNING


def test_each_operation_is_recovered_under_its_own_policy(rig: Rig) -> None:
    """R8."""
    patient, strict = Policy(mode="again", attempts=12), Policy(mode="again", attempts=1)
    rig.begin(patient)
    rig.time.advance(LEASE)
    asked: list[str] = []

    def policy_of(name: str) -> Policy:
        asked.append(name)
        return strict

    rerun, _ = surface(rig, succeed)
    Scanner(rig.engine, policy_of, [rerun], namespace="default", interval_seconds=1.0).look()
    assert asked == [NAME]
    assert rig.checkpoint().state is State.PARKED


def test_a_re_run_on_a_loop_ends_like_one_on_a_thread(rig: Rig) -> None:
    """R13."""
    rig.begin(AGAIN)
    rig.time.advance(LEASE)
    flows: list[Flow[fx.Answer | None]] = []

    def later(seen: Checkpoint, request: StoredRequest, policy: Policy, flow: Flow[fx.Answer | None]) -> bool:
        flows.append(flow)
        return True

    scanner(rig, later, policy=AGAIN).look()

    async def rerun() -> object:
        run = AsyncRun(rig.engine, flows[0], AGAIN, name=NAME, stop=nobody)
        assert isinstance(await run.advance(), fx.Execute)
        return await run.advance(returned())

    assert asyncio.run(rerun()) == fx.Fresh(CREATED)
    assert rig.checkpoint().state is State.DONE


def test_another_applications_operations_are_not_run_again_here(rig: Rig) -> None:
    """R13, K4: a namespace is one application's, and so are its surfaces."""
    rig.begin(AGAIN)
    rig.time.advance(LEASE)
    rerun, answers = surface(rig, succeed)
    scan = Scanner(rig.engine, lambda _: AGAIN, [rerun], namespace="another", interval_seconds=1.0)
    assert scan.look() == 0
    assert answers == []
    assert scanner(rig, rerun, policy=AGAIN).look() == 1
    assert answers == [fx.Fresh(CREATED)]


def test_an_operation_goes_back_to_the_surface_it_came_in_by(rig: Rig) -> None:
    """R13: a mounted application has its own routes."""
    rig.begin(AGAIN)
    rig.time.advance(LEASE)
    first, answers = surface(rig, succeed)
    second, others = surface(rig, succeed)
    Scanner(rig.engine, lambda _: AGAIN, [first, second], namespace="default", interval_seconds=1.0).look()
    assert (answers, others) == ([fx.Fresh(CREATED)], [])
