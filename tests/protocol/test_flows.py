"""Every path of ``flows.py``, played without a runtime."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from retrysafe.errors import (
    AttemptSuperseded,
    InProgress,
    KeyExpired,
    KeyReused,
    NotReplayable,
    OutcomeUnknown,
    RecordUnreadable,
    ReplayRefused,
    StoreCorrupt,
    StoreError,
    StoreUnavailable,
)
from retrysafe.protocol import effects as fx
from retrysafe.protocol.effects import Answer, Flow
from retrysafe.protocol.encoding import encode_outcome
from retrysafe.protocol.flows import adopt, handle, handle_unprotected, recover
from retrysafe.protocol.model import Final, Mode, NoEffect, Outcome, Response
from retrysafe.protocol.policy import NOTHING_DONE, Policy
from retrysafe.protocol.states import State
from retrysafe.protocol.verdicts import (
    LEASE_OVER_ONCE,
    Claimed,
    Expired,
    Finished,
    InFlight,
    Mismatch,
    Parked,
    Verdict,
)
from retrysafe.testing.play import Trace, play
from tests.protocol.samples import ASK, CHECKPOINT, DONE, OUTCOME, claim

ONCE, AGAIN = Policy(), Policy(mode=Mode.AGAIN)
ONCE_CLAIM, AGAIN_CLAIM = claim(Mode.ONCE), claim(Mode.AGAIN)
MODES = pytest.mark.parametrize(("policy", "mine"), [(ONCE, ONCE_CLAIM), (AGAIN, AGAIN_CLAIM)], ids=["once", "again"])
DOWN = StoreUnavailable("down")
DAMAGED = StoreCorrupt("damaged")
FAILURES = pytest.mark.parametrize("failure", [DOWN, DAMAGED], ids=["down", "damaged"])

MADE = Response(201, "made")
FAILED = fx.Returned(Response(500, "failed"), Outcome(500, (), b"failed"))
REPLAYED = fx.Replayed("operation-1", Response.raw(OUTCOME.status, OUTCOME.headers, OUTCOME.body or b""))
BROKE = ValueError("broke")


def returned(status: int = 201) -> fx.Returned:
    return fx.Returned(Response(status, "made"), Outcome(status, (), b"made"))


def raised(error: Exception) -> fx.Raised:
    return fx.Raised(error, FAILED)


def handled(policy: Policy, *answers: object, wait_seconds: float = 0.0) -> Trace[Answer]:
    return play(handle(ASK, policy, wait_seconds), answers)


def executed(policy: Policy, *answers: object) -> Trace[Answer]:
    """What happens behind a claim; the effect that claims is not shown."""
    mine = ONCE_CLAIM if policy.mode is Mode.ONCE else AGAIN_CLAIM
    trace = handled(policy, Claimed(mine), *answers)
    assert trace.asked[:2] == (fx.Claim(ASK), fx.Execute(mine))
    return dataclasses.replace(trace, asked=trace.asked[2:])


# What a claim finds.


@MODES
def test_a_first_request_is_claimed_executed_recorded_and_only_then_answered(policy: Policy, mine: Any) -> None:
    """S1."""
    trace = handled(policy, Claimed(mine), returned(), fx.Written())
    assert trace.asked == (fx.Claim(ASK), fx.Execute(mine), fx.Record(mine, returned().outcome))
    assert trace.returned == fx.Fresh(returned().response)


def test_nothing_is_sent_before_the_record_is_durable() -> None:
    """S1: a process that dies at the write has answered nobody."""
    trace = handled(ONCE, Claimed(ONCE_CLAIM), returned())
    assert not trace.ended
    assert trace.asked[-1] == fx.Record(ONCE_CLAIM, returned().outcome)


def test_another_request_under_the_key_is_refused_and_told_nothing() -> None:
    """F1: not even the operation's id, because the key may have been guessed."""
    trace = handled(ONCE, Mismatch(DONE))
    assert isinstance(trace.raised, KeyReused)
    assert trace.raised.operation_id is None
    assert trace.kinds == (fx.Claim,)


def test_a_finished_operation_is_replayed_byte_for_byte_behind_authorisation() -> None:
    """S2, K6."""
    trace = handled(ONCE, Finished(DONE), True)
    assert trace.asked == (fx.Claim(ASK), fx.Authorize(DONE))
    assert trace.returned == REPLAYED


def test_a_caller_who_may_not_see_the_outcome_gets_nothing_of_it() -> None:
    """K6."""
    trace = handled(ONCE, Finished(DONE), False)
    assert isinstance(trace.raised, ReplayRefused)
    assert trace.raised.operation_id is None


def test_a_body_that_was_not_kept_is_made_again_by_the_rebuild_hook() -> None:
    """S5."""
    done = replace(DONE, outcome=encode_outcome(replace_body(None)))
    trace = handled(ONCE, Finished(done), True, MADE)
    assert trace.asked[1:] == (fx.Authorize(done), fx.Rebuild(done))
    assert trace.returned == fx.Replayed("operation-1", MADE)


def test_a_body_that_was_not_kept_and_cannot_be_made_again_is_told_by_status_and_location() -> None:
    """S5: never a second run."""
    done = replace(DONE, outcome=encode_outcome(replace_body(None)))
    trace = handled(ONCE, Finished(done), True, None)
    assert isinstance(trace.raised, NotReplayable)
    assert (trace.raised.original_status, trace.raised.location) == (201, "/charges/1")
    assert trace.raised.operation_id == "operation-1"


def replace_body(body: bytes | None) -> Outcome:
    return Outcome(OUTCOME.status, OUTCOME.headers, body)


def test_a_record_of_an_unknown_format_is_an_error_and_not_a_run() -> None:
    """S11."""
    trace = handled(ONCE, Finished(replace(DONE, outcome=b"\x7f")), True)
    assert isinstance(trace.raised, RecordUnreadable)
    assert fx.Execute not in trace.kinds


def test_a_final_state_without_an_outcome_is_expired_and_not_a_run() -> None:
    """S10: the purge came between the claim and the reading."""
    trace = handled(ONCE, Finished(replace(DONE, outcome=None)), True)
    assert isinstance(trace.raised, KeyExpired)


def test_an_operation_in_flight_is_refused_with_an_estimate() -> None:
    """S9."""
    trace = handled(ONCE, InFlight(CHECKPOINT), 4)
    assert trace.asked == (fx.Claim(ASK), fx.RetryAfter(CHECKPOINT))
    assert isinstance(trace.raised, InProgress)
    assert (trace.raised.retry_after_seconds, trace.raised.operation_id) == (4, "operation-1")


def test_whoever_waits_asks_the_store_again_and_replays_the_winner() -> None:
    """S9, C6."""
    trace = handled(ONCE, InFlight(CHECKPOINT), True, Finished(DONE), True, wait_seconds=3.0)
    assert trace.asked == (fx.Claim(ASK), fx.Wait(CHECKPOINT, 3.0), fx.Claim(ASK), fx.Authorize(DONE))
    assert trace.returned == REPLAYED


def test_whoever_waits_claims_a_key_that_was_released() -> None:
    """C6."""
    trace = handled(ONCE, InFlight(CHECKPOINT), True, Claimed(ONCE_CLAIM), returned(), fx.Written(), wait_seconds=3.0)
    assert trace.returned == fx.Fresh(returned().response)


def test_nobody_waits_twice() -> None:
    """S9: a second wait would hold the client beyond what it asked for."""
    trace = handled(ONCE, InFlight(CHECKPOINT), True, InFlight(CHECKPOINT), 1, wait_seconds=3.0)
    assert trace.kinds == (fx.Claim, fx.Wait, fx.Claim, fx.RetryAfter)
    assert isinstance(trace.raised, InProgress)


def test_a_wait_that_came_to_nothing_is_a_refusal() -> None:
    """S9: the time is over, or too many wait already."""
    trace = handled(ONCE, InFlight(CHECKPOINT), False, 1, wait_seconds=3.0)
    assert trace.kinds == (fx.Claim, fx.Wait, fx.RetryAfter)
    assert isinstance(trace.raised, InProgress)


@pytest.mark.parametrize(("stored", "told"), [("by hand", "by hand"), (None, LEASE_OVER_ONCE)])
def test_a_parked_operation_is_told_honestly(stored: str | None, told: str) -> None:
    """Mode once: the unknown is told, and nothing runs."""
    trace = handled(ONCE, Parked(replace(CHECKPOINT, state=State.PARKED, reason=stored)))
    assert isinstance(trace.raised, OutcomeUnknown)
    assert (trace.raised.reason, trace.raised.operation_id) == (told, "operation-1")


def test_an_expired_key_is_refused() -> None:
    """S10."""
    trace = handled(ONCE, Expired(replace(DONE, state=State.EXPIRED, outcome=None)))
    assert isinstance(trace.raised, KeyExpired)
    assert trace.raised.operation_id == "operation-1"


# The store is down before the operation.


def test_a_store_that_is_down_refuses_the_request_and_nothing_runs() -> None:
    """D1."""
    trace = handled(ONCE, DOWN)
    assert trace.raised is DOWN
    assert trace.kinds == (fx.Claim,)


FAIL_OPEN = Policy(fail_open=True)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (returned(), fx.Fresh(returned().response, protected=False)),
        (raised(NoEffect(MADE)), fx.Fresh(MADE, protected=False)),
        (raised(Final(MADE)), fx.Fresh(MADE, protected=False)),
        (raised(BROKE), fx.Reraise(BROKE)),
    ],
    ids=["returned", "no effect", "final", "raised"],
)
def test_an_operation_that_fails_open_runs_unprotected_and_says_so(reply: object, answer: Answer) -> None:
    """D1."""
    trace = handled(FAIL_OPEN, DOWN, reply)
    assert trace.asked == (fx.Claim(ASK), fx.Execute(None))
    assert trace.returned == answer
    assert play(handle_unprotected(), [reply]).returned == answer


def test_a_stream_that_fails_open_is_forwarded_unprotected() -> None:
    """D1."""
    trace = handled(FAIL_OPEN, DOWN, fx.Began(Outcome(200, (), None)), fx.Ended())
    assert trace.asked[1:] == (fx.Execute(None), fx.Forward(None, stored=False))
    assert trace.returned == fx.Streamed()


def test_no_effect_without_a_response_is_raised_again_when_unprotected() -> None:
    """D1."""
    nothing = NoEffect()
    assert handled(FAIL_OPEN, DOWN, raised(nothing)).returned == fx.Reraise(nothing)


def test_failing_open_never_runs_beside_an_attempt_that_was_met_in_flight() -> None:
    """D1, C1: the store went down while we waited, and the second run would be one that we know of."""
    trace = handled(FAIL_OPEN, InFlight(CHECKPOINT), True, DOWN, wait_seconds=3.0)
    assert trace.raised is DOWN
    assert fx.Execute not in trace.kinds


def test_a_damaged_store_is_no_reason_to_fail_open() -> None:
    """D1: it does not pass by itself."""
    assert handled(FAIL_OPEN, DAMAGED).raised is DAMAGED


# What is released and what is recorded.


@pytest.mark.parametrize("status", [200, 302, 400, 404, 422, 429, 500, 503])
def test_once_records_whatever_comes_back(status: int) -> None:
    """S2, S3: a charge may have come before a 429 or a 500."""
    trace = executed(ONCE, returned(status), fx.Written())
    assert trace.kinds == (fx.Record,)
    assert trace.returned == fx.Fresh(returned(status).response)


def test_once_releases_the_statuses_that_the_author_listed() -> None:
    """S3."""
    trace = executed(Policy(release_on=frozenset({429})), returned(429), fx.Written())
    assert trace.asked == (fx.Release(ONCE_CLAIM),)
    assert trace.returned == fx.Fresh(returned(429).response)


@pytest.mark.parametrize("status", [*sorted(NOTHING_DONE), 500, 503])
def test_again_releases_what_says_that_nothing_was_done(status: int) -> None:
    """S3."""
    trace = executed(AGAIN, returned(status), fx.Written())
    assert trace.asked == (fx.Release(AGAIN_CLAIM),)
    assert trace.returned == fx.Fresh(returned(status).response)


@pytest.mark.parametrize("status", [200, 303, 400, 404, 410, 422])
def test_again_records_what_is_an_answer(status: int) -> None:
    """S2."""
    assert executed(AGAIN, returned(status), fx.Written()).kinds == (fx.Record,)


def test_once_records_an_exception_as_its_outcome() -> None:
    """Mode once: recorded and replayed, as Stripe does."""
    trace = executed(ONCE, raised(BROKE), fx.Written())
    assert trace.asked == (fx.Record(ONCE_CLAIM, FAILED.outcome),)
    assert trace.returned == fx.Fresh(FAILED.response)


def test_again_releases_after_an_exception_and_raises_it_again() -> None:
    """Mode again."""
    trace = executed(AGAIN, raised(BROKE), fx.Written())
    assert trace.asked == (fx.Release(AGAIN_CLAIM),)
    assert trace.returned == fx.Reraise(BROKE)


@MODES
def test_no_effect_frees_the_key_in_every_mode(policy: Policy, mine: Any) -> None:
    """S3: the author says that nothing happened."""
    trace = executed(policy, raised(NoEffect(MADE)), fx.Written())
    assert trace.asked == (fx.Release(mine),)
    assert trace.returned == fx.Fresh(MADE)


@MODES
def test_no_effect_without_a_response_goes_to_the_framework(policy: Policy, mine: Any) -> None:
    """S3."""
    nothing = NoEffect()
    trace = executed(policy, raised(nothing), fx.Written())
    assert trace.asked == (fx.Release(mine),)
    assert trace.returned == fx.Reraise(nothing)


@MODES
def test_final_records_the_response_whatever_its_status(policy: Policy, mine: Any) -> None:
    """S3: also one that would be released."""
    final = fx.Raised(Final(Response(503, "over")), fx.Returned(Response(503, "over"), Outcome(503, (), b"over")))
    trace = executed(policy, final, fx.Written())
    assert trace.asked == (fx.Record(mine, Outcome(503, (), b"over")),)
    assert trace.returned == fx.Fresh(Response(503, "over"))


# The store is down after the effect.


@FAILURES
def test_once_tells_the_truth_and_goes_on_trying_when_recording_fails(failure: StoreError) -> None:
    """D2: nobody else may have run it."""
    trace = executed(ONCE, returned(), failure, None)
    assert trace.asked == (
        fx.Record(ONCE_CLAIM, returned().outcome),
        fx.RecordLater(fx.Record(ONCE_CLAIM, returned().outcome)),
    )
    assert trace.returned == fx.Fresh(returned().response, stored=False)


@FAILURES
def test_again_tells_the_truth_only_while_its_lease_holds(failure: StoreError) -> None:
    """D2."""
    held = executed(AGAIN, returned(), failure, None, True)
    assert held.kinds == (fx.Record, fx.RecordLater, fx.StillHeld)
    assert held.returned == fx.Fresh(returned().response, stored=False)
    lost = executed(AGAIN, returned(), failure, None, False)
    assert isinstance(lost.raised, AttemptSuperseded)
    assert lost.raised.operation_id == "operation-1"


@FAILURES
def test_a_release_that_fails_is_tried_again_later(failure: StoreError) -> None:
    """D2."""
    trace = executed(AGAIN, returned(503), failure, True, None)
    assert trace.asked == (fx.Release(AGAIN_CLAIM), fx.StillHeld(AGAIN_CLAIM), fx.ReleaseLater(AGAIN_CLAIM))
    assert trace.returned == fx.Fresh(returned(503).response)


def test_a_release_that_fails_behind_a_lost_lease_shows_nothing() -> None:
    """C4, D2: somebody else may have answered by now."""
    trace = executed(AGAIN, returned(503), DOWN, False, None)
    assert isinstance(trace.raised, AttemptSuperseded)


# Superseded.


@pytest.mark.parametrize(
    ("reply", "write"), [(returned(), fx.Record), (returned(503), fx.Release), (raised(BROKE), fx.Release)]
)
def test_the_loser_serves_the_winners_outcome_and_never_its_own(reply: object, write: type[Any]) -> None:
    """C4."""
    trace = executed(AGAIN, reply, fx.Superseded(), DONE, True)
    assert trace.kinds == (write, fx.Read, fx.Authorize)
    assert trace.asked[1] == fx.Read(AGAIN_CLAIM.digest)
    assert trace.returned == REPLAYED


@pytest.mark.parametrize(
    "found",
    [
        None,
        CHECKPOINT,
        replace(DONE, operation_id="another operation"),
        replace(DONE, state=State.EXPIRED, outcome=None),
        replace(DONE, state=State.PARKED),
        DOWN,
    ],
    ids=["purged", "still running", "claimed anew", "expired", "parked", "store down"],
)
def test_the_loser_says_nothing_of_its_own_when_there_is_no_winner_yet(found: object) -> None:
    """C4: 503 attempt-superseded."""
    trace = executed(AGAIN, returned(), fx.Superseded(), found)
    assert isinstance(trace.raised, AttemptSuperseded)
    assert trace.kinds == (fx.Record, fx.Read)


def test_an_attempt_that_was_stopped_adopts_the_winners_outcome() -> None:
    """C4."""
    trace = play(adopt(AGAIN_CLAIM), [DONE, True])
    assert trace.asked == (fx.Read(AGAIN_CLAIM.digest), fx.Authorize(DONE))
    assert trace.returned == REPLAYED
    assert isinstance(play(adopt(AGAIN_CLAIM), [CHECKPOINT]).raised, AttemptSuperseded)


# Streams.

BEGAN = fx.Began(Outcome(200, (), None))


@MODES
def test_a_stream_is_durable_before_its_first_byte_and_done_at_its_end(policy: Policy, mine: Any) -> None:
    """S5."""
    trace = executed(policy, BEGAN, fx.Written(), fx.Ended(), fx.Written())
    assert trace.asked == (fx.BeginStream(mine), fx.Forward(mine, stored=True), fx.Record(mine, BEGAN.outcome))
    assert trace.returned == fx.Streamed()


def test_a_refused_or_failed_record_changes_nothing_once_the_bytes_have_left() -> None:
    """S5, D2."""
    refused = executed(ONCE, BEGAN, fx.Written(), fx.Ended(), fx.Superseded())
    assert refused.returned == fx.Streamed()
    failed = executed(ONCE, BEGAN, fx.Written(), fx.Ended(), DOWN, None)
    assert failed.kinds == (fx.BeginStream, fx.Forward, fx.Record, fx.RecordLater)
    assert failed.returned == fx.Streamed()


def test_a_stream_whose_beginning_was_refused_is_not_forwarded() -> None:
    """C4, S5."""
    trace = executed(ONCE, BEGAN, fx.Superseded(), DONE, True)
    assert trace.kinds == (fx.BeginStream, fx.Read, fx.Authorize)
    assert trace.returned == REPLAYED


def test_a_stream_leaves_without_being_durable_only_while_nobody_else_can_run() -> None:
    """D2, S5."""
    once = executed(ONCE, BEGAN, DOWN, fx.Ended(), fx.Written())
    assert once.asked[1] == fx.Forward(ONCE_CLAIM, stored=False)
    held = executed(AGAIN, BEGAN, DOWN, True, fx.Ended(), fx.Written())
    assert held.kinds == (fx.BeginStream, fx.StillHeld, fx.Forward, fx.Record)
    lost = executed(AGAIN, BEGAN, DOWN, False)
    assert isinstance(lost.raised, AttemptSuperseded)
    assert lost.kinds == (fx.BeginStream, fx.StillHeld)


def test_a_stream_that_breaks_is_an_end_in_once_and_abandoned_in_again() -> None:
    """S5: what has left is never sent again; a repeatable operation may make the rest anew."""
    once = executed(ONCE, BEGAN, fx.Written(), fx.Ended(BROKE), fx.Written())
    assert once.kinds == (fx.BeginStream, fx.Forward, fx.Record)
    again = executed(AGAIN, BEGAN, fx.Written(), fx.Ended(BROKE), None)
    assert again.kinds == (fx.BeginStream, fx.Forward, fx.Abandon)
    assert again.returned == fx.Reraise(BROKE)


@pytest.mark.parametrize(
    "answers", [(fx.Written(),), (fx.Superseded(),), (DOWN, None)], ids=["written", "superseded", "down"]
)
def test_a_streamed_response_that_says_nothing_was_done_is_released_and_sent_once(answers: tuple[object, ...]) -> None:
    """S3, S5: whatever becomes of the release, no second response follows the first."""
    trace = executed(AGAIN, fx.Began(Outcome(503, (), None)), True, fx.Ended(), *answers)
    assert trace.kinds[:3] == (fx.StillHeld, fx.Forward, fx.Release)
    assert trace.returned == fx.Streamed()


def test_a_loser_streams_nothing_of_its_own_even_if_it_says_that_nothing_was_done() -> None:
    """C4: nothing is written before such a stream leaves, so the lease has to say that nobody took over."""
    trace = executed(AGAIN, fx.Began(Outcome(503, (), None)), False, DONE, True)
    assert trace.kinds == (fx.StillHeld, fx.Read, fx.Authorize)
    assert trace.returned == REPLAYED


# Recovery.


def recovered(*answers: object) -> Trace[Answer | None]:
    return play(recover(CHECKPOINT, AGAIN, "attempt-3", 2.0), answers)


def test_an_abandoned_operation_is_taken_over_run_and_recorded() -> None:
    """R1, R2: recovery is a second entrance to the same room."""
    trace = recovered(Claimed(AGAIN_CLAIM), returned(), fx.Written())
    assert trace.asked == (
        fx.Reclaim(CHECKPOINT, "attempt-3", 2.0),
        fx.Execute(AGAIN_CLAIM),
        fx.Record(AGAIN_CLAIM, returned().outcome),
    )
    assert trace.returned == fx.Fresh(returned().response)


@pytest.mark.parametrize("verdict", [None, Parked(CHECKPOINT)], ids=["somebody was faster", "parked"])
def test_recovery_does_nothing_without_a_claim(verdict: Verdict | None) -> None:
    """R1, R8."""
    trace = recovered(verdict)
    assert (trace.kinds, trace.ended, trace.returned) == ((fx.Reclaim,), True, None)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_re_run_that_is_refused_as_unauthenticated_parks(status: int, streamed: bool) -> None:
    """R13: the principal cannot be restored; a released 401 would hide that."""
    reply = fx.Began(Outcome(status, (), None)) if streamed else returned(status)
    trace = recovered(Claimed(AGAIN_CLAIM), reply, fx.Written())
    assert trace.kinds == (fx.Reclaim, fx.Execute, fx.ParkClaim)
    assert isinstance(trace.raised, OutcomeUnknown)
    assert str(status) in trace.raised.reason


def test_a_401_of_a_clients_own_request_does_not_park() -> None:
    """S3."""
    assert executed(AGAIN, returned(401), fx.Written()).kinds == (fx.Release,)


# Cancellation.


def _every_pause() -> list[Any]:
    """A way into each effect that a flow may be waiting in when it is cancelled."""
    once, again = (Claimed(ONCE_CLAIM),), (Claimed(AGAIN_CLAIM),)
    done = replace(DONE, outcome=encode_outcome(replace_body(None)))
    ways: dict[str, tuple[Policy, tuple[object, ...]]] = {
        "claim": (ONCE, ()),
        "execute": (ONCE, once),
        "record": (ONCE, (*once, returned())),
        "record later": (ONCE, (*once, returned(), DOWN)),
        "still held": (AGAIN, (*again, returned(), DOWN, None)),
        "release": (AGAIN, (*again, returned(503))),
        "release later": (AGAIN, (*again, returned(503), DOWN)),
        "read": (AGAIN, (*again, returned(), fx.Superseded())),
        "begin stream": (ONCE, (*once, BEGAN)),
        "forward": (ONCE, (*once, BEGAN, fx.Written())),
        "record a stream": (ONCE, (*once, BEGAN, fx.Written(), fx.Ended())),
        "abandon": (AGAIN, (*again, BEGAN, fx.Written(), fx.Ended(BROKE))),
        "forward to be released": (AGAIN, (*again, fx.Began(Outcome(503, (), None)))),
        "authorize": (ONCE, (Finished(DONE),)),
        "rebuild": (ONCE, (Finished(done), True)),
        "wait": (ONCE, (InFlight(CHECKPOINT),)),
        "retry after": (ONCE, (InFlight(CHECKPOINT), False)),
        "execute unprotected": (FAIL_OPEN, (DOWN,)),
        "forward unprotected": (FAIL_OPEN, (DOWN, BEGAN)),
    }
    return [pytest.param(policy, answers, id=name) for name, (policy, answers) in ways.items()]


class Cancelled(BaseException):
    """What ``asyncio.CancelledError`` is to a flow."""


@pytest.mark.parametrize("cancelled", [GeneratorExit(), Cancelled(), KeyboardInterrupt(), SystemExit()], ids=repr)
@pytest.mark.parametrize(("policy", "answers"), _every_pause())
def test_a_cancelled_flow_asks_for_nothing_more(
    policy: Policy, answers: tuple[object, ...], cancelled: BaseException
) -> None:
    """C7: cancellation counts as a crash, and the lease is the only clean-up path."""
    before = handled(policy, *answers, wait_seconds=1.0)
    assert not before.ended
    trace = handled(policy, *answers, cancelled, wait_seconds=1.0)
    assert trace.asked == before.asked
    assert trace.raised is cancelled


# All paths at once.

verdicts = st.sampled_from(
    [
        Claimed(ONCE_CLAIM),
        Claimed(AGAIN_CLAIM),
        Finished(DONE),
        InFlight(CHECKPOINT),
        Mismatch(DONE),
        Parked(CHECKPOINT),
    ]
)
replies = st.sampled_from(
    [returned(), returned(503), BEGAN, fx.Began(Outcome(503, (), None)), raised(BROKE), raised(NoEffect(MADE))]
)
receipts = st.sampled_from([fx.Written(), fx.Superseded()])
POSSIBLE: dict[type[Any], st.SearchStrategy[object]] = {
    fx.Claim: verdicts | st.just(DOWN),
    fx.Execute: replies,
    fx.Record: receipts | st.just(DOWN),
    fx.Release: receipts | st.just(DOWN),
    fx.BeginStream: receipts | st.just(DOWN),
    fx.Read: st.sampled_from([None, DONE, CHECKPOINT, DOWN]),
    fx.Forward: st.sampled_from([fx.Ended(), fx.Ended(BROKE)]),
    fx.Wait: st.booleans(),
    fx.StillHeld: st.booleans(),
    fx.Authorize: st.booleans(),
    fx.Rebuild: st.sampled_from([None, MADE]),
    fx.RetryAfter: st.just(1),
    fx.RecordLater: st.none(),
    fx.ReleaseLater: st.none(),
    fx.Abandon: st.none(),
}


@given(st.data(), st.sampled_from([ONCE, AGAIN, FAIL_OPEN]), st.sampled_from([0.0, 1.0]))
def test_whatever_the_world_answers_the_flow_keeps_the_promises(
    data: st.DataObject, policy: Policy, wait_seconds: float
) -> None:
    """C4, S1, S5: at most one run, nothing sent after a refused write, one response for one request."""

    def flow() -> Flow[Answer]:
        return handle(ASK, policy, wait_seconds)

    answers: list[object] = []
    trace = play(flow())
    while not trace.ended:
        assert len(answers) < 12
        answers.append(data.draw(POSSIBLE[trace.kinds[-1]]))
        trace = play(flow(), answers)
    given_to = dict(zip(trace.kinds, answers, strict=False))
    assert trace.kinds.count(fx.Execute) <= 1
    assert trace.kinds.count(fx.Forward) <= 1
    assert trace.raised is None or isinstance(trace.raised, Exception)
    if isinstance(trace.returned, fx.Fresh):
        writes = [given_to[kind] for kind in (fx.Record, fx.Release) if kind in given_to]
        assert fx.Superseded() not in writes
        assert trace.returned.stored is (fx.RecordLater not in trace.kinds)
        assert trace.returned.protected is (len(writes) == 1)
    if isinstance(trace.returned, fx.Replayed | fx.Fresh):
        assert fx.Forward not in trace.kinds
    if fx.Forward in trace.kinds:
        assert isinstance(trace.returned, fx.Streamed | fx.Reraise)
