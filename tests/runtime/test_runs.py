"""One run of one flow: hooks, and what is told about exceptions."""

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from retrysafe import Final, HttpRequest, NoEffect, NotReplayable, Policy, ReplayRefused, Response, State
from retrysafe.http.replay import outcome_of
from retrysafe.protocol import effects as fx
from retrysafe.runtime import events
from retrysafe.runtime.runs import Hooks
from retrysafe.testing.faults import fail
from tests.runtime.rig import AGAIN, CREATED, ONCE, Rig, nobody, raised, returned

REQUEST = HttpRequest(method="POST", path=b"/charges", query=b"", headers=(), body=b"{}")
REBUILT = Response(200, {"rebuilt": True})


def recorded(rig: Rig, *, keep_body: bool = True) -> str:
    run, claim = rig.begin()
    run.advance(fx.Returned(CREATED, outcome_of(CREATED, keep_body=keep_body)))
    return claim.operation_id


@pytest.mark.parametrize("may", [True, False])
def test_the_application_decides_who_sees_a_recorded_outcome(rig: Rig, *, may: bool) -> None:
    """K6. The hook may be async where there is a loop."""
    operation_id = recorded(rig)

    async def decide(request: HttpRequest, _: object) -> bool:
        return request is REQUEST and may

    hooks = (Hooks(authorize_replay=lambda request, _: request is REQUEST and may), Hooks(authorize_replay=decide))

    def replay_in_thread() -> object:
        return rig.run(request=REQUEST, hooks=hooks[0]).advance()

    def replay_on_loop() -> object:
        return asyncio.run(rig.arun(request=REQUEST, hooks=hooks[1]).advance())

    replays: list[Callable[[], object]] = [replay_in_thread, replay_on_loop]
    for replay in replays:
        if may:
            assert replay() == fx.Replayed(operation_id, CREATED)
        else:
            with pytest.raises(ReplayRefused):
                replay()


def test_a_response_that_was_not_kept_is_rebuilt_or_refused_but_the_operation_is_never_run_again(rig: Rig) -> None:
    """S5."""
    operation_id = recorded(rig, keep_body=False)
    hooks = Hooks(rebuild=lambda _, checkpoint: REBUILT if checkpoint.operation_id == operation_id else None)
    assert rig.run(request=REQUEST, hooks=hooks).advance() == fx.Replayed(operation_id, REBUILT)
    assert asyncio.run(rig.arun(request=REQUEST, hooks=hooks).advance()) == fx.Replayed(operation_id, REBUILT)
    for without in (Hooks(), Hooks(rebuild=lambda _, __: None)):
        with pytest.raises(NotReplayable) as caught:
            rig.run(request=REQUEST, hooks=without).advance()
        assert caught.value.original_status == 201


def test_a_claim_made_at_once_runs_nothing_of_the_applications(rig: Rig) -> None:
    """S1, C7: undoing and the like belong into a task that nobody cancels, and the watchdog can stop."""
    steps = Policy(mode="steps")
    _, claim = rig.begin(steps)
    rig.store.run(partial(rig.store.verbs.begin_undo, claim, "refused", None))
    rig.engine.keeper.forget(claim)
    rig.time.advance(steps.lease_seconds + 1)
    again = rig.arun(steps)
    assert asyncio.run(again.claim()) is None
    assert rig.checkpoint().state is State.UNDOING
    answer = asyncio.run(again.advance())
    assert isinstance(answer, fx.Fresh | fx.Replayed)
    assert rig.checkpoint().state is State.UNDONE


def test_an_outcome_that_waits_for_the_store_keeps_nothing_else_in_memory(rig: Rig) -> None:
    """D2: an outage may be long, and a request's body large."""
    run, claim = rig.begin(stop=nobody)
    rig.store.plan(fail("record"))
    run.advance(returned())
    (live,) = rig.engine.keeper._live.values()
    assert live.claim == claim
    assert live.stop is not nobody


def test_an_exception_nobody_declared_is_told_by_its_type_and_a_declared_one_is_not(rig: Rig) -> None:
    """Its message may hold secrets (K8)."""
    operation_ids: list[str] = []
    for key, error in (("a", ValueError("4242 4242")), ("b", NoEffect()), ("c", Final(CREATED))):
        run, claim = rig.begin(ONCE, key)
        run.advance(raised(error))
        operation_ids.append(claim.operation_id)
    told = rig.events.of(events.HandlerFailed)
    assert [(event.operation_id, event.error) for event in told] == [(operation_ids[0], "ValueError")]


def test_an_exception_is_the_outcome_in_mode_once_and_a_release_in_mode_again(rig: Rig) -> None:
    """The table of modes, S6."""
    error = ValueError("x")
    run, _ = rig.begin(ONCE, "once")
    assert run.advance(raised(error)) == fx.Fresh(Response(500, "failed"))
    assert rig.checkpoint("once").state is State.DONE
    run, _ = rig.begin(AGAIN, "again")
    assert run.advance(raised(error)) == fx.Reraise(error)
    assert rig.checkpoint("again").state is State.RELEASED


def test_a_stream_is_durable_before_its_first_byte_and_done_at_its_end(rig: Rig) -> None:
    """S5."""
    run, claim = rig.begin()
    step = run.advance(fx.Began(outcome_of(CREATED, keep_body=False)))
    assert step == fx.Forward(claim, stored=True)
    assert rig.checkpoint().state is State.STREAMING
    assert run.advance(fx.Ended()) == fx.Streamed()
    assert rig.checkpoint().state is State.DONE
