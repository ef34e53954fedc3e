"""What is known about the course of one operation."""

import click
import pytest
from msgspec.structs import replace

from retrysafe.cli.timeline import Moment, Sign, begun_at, drawn, moments
from retrysafe.protocol.model import Checkpoint, Mode
from retrysafe.protocol.states import State

T0 = 1_700_000_000.0

RUNNING = Checkpoint(
    digest=b"d" * 16,
    operation_id="018bcfe5-6800-7000-8000-000000000001",
    name="POST /charges",
    mode=Mode.ONCE,
    state=State.RUNNING,
    namespace="tests",
    principal="alice",
    key_hint="7c4a",
    fingerprint=b"f",
    fence=1,
    attempt=1,
    deaths=0,
    attempt_id="018bcfe5-6800-7000-8000-000000000001",
    created_at=T0,
    lease_until=T0 + 15,
    due_at=T0 + 15,
    finished_at=None,
    outcome_until=None,
    tombstone_until=T0 + 2_592_000,
    outcome=None,
    request=None,
    reason=None,
    version=1,
    undoing=False,
    now=T0 + 5,
)
DONE = replace(RUNNING, state=State.DONE, finished_at=T0 + 1, outcome_until=T0 + 86_400, tombstone_until=T0 + 2_592_000)


def _course(checkpoint: Checkpoint) -> list[tuple[float, str, str]]:
    return [(moment.at - T0, moment.sign.value, moment.text) for moment in moments(checkpoint)]


def test_an_operation_in_flight_has_a_lease_before_it() -> None:
    assert _course(RUNNING) == [
        (0, "●", "claimed by attempt 1"),
        (5, "◆", "attempt 1 is in flight"),
        (15, "○", "the lease ends, unless it is renewed"),
    ]


def test_an_abandoned_operation_has_a_lease_behind_it() -> None:
    assert _course(replace(RUNNING, now=T0 + 40)) == [
        (0, "●", "claimed by attempt 1"),
        (15, "✗", "the lease of attempt 1 was over"),
        (40, "◆", "abandoned: waits for the recovery scan or for a retry"),
    ]


def test_deaths_and_the_back_off_are_told() -> None:
    """R8."""
    course = _course(
        replace(RUNNING, attempt=3, deaths=2, attempt_id="018bcfe5-6fd0-7000-8000-000000000002", due_at=T0 + 60)
    )
    assert course == [
        (0, "●", "claimed by attempt 1"),
        (0, "●", "3 attempts so far, 2 of them ended without an outcome"),
        (2, "●", "≈ claimed by attempt 3"),
        (5, "◆", "attempt 3 is in flight"),
        (15, "○", "the lease ends, unless it is renewed"),
        (60, "○", "the recovery scan looks at it again (back-off)"),
    ]


def test_a_done_operation_has_its_outcome_behind_and_its_retention_before_it() -> None:
    """S10."""
    assert _course(DONE) == [
        (0, "●", "claimed by attempt 1"),
        (1, "●", "outcome recorded by attempt 1"),
        (5, "◆", "done: a retry gets the recorded outcome"),
        (86_400, "○", "outcome is replayable until then"),
        (2_592_000, "○", "the key is remembered until then (tombstone)"),
    ]


def test_a_tombstone_is_over_some_day() -> None:
    late = replace(DONE, now=T0 + 90_000)
    assert (86_400, "●", "outcome's retention is over: a retry is answered 410") in _course(late)
    assert _course(late)[-2][2] == "done: the outcome is about to be dropped"
    over = replace(DONE, state=State.EXPIRED, now=T0 + 3_000_000)
    assert [text for *_, text in _course(over)][-2:] == [
        "tombstone is over: the key is free",
        "expired: the outcome was dropped, a retry is refused",
    ]


def test_an_attempt_that_parked_its_own_operation_did_not_die() -> None:
    parked = replace(RUNNING, state=State.PARKED, reason="the bank did not answer", now=T0 + 40)
    assert _course(parked) == [(0, "●", "claimed by attempt 1"), (40, "◆", "parked: the bank did not answer")]
    died = replace(parked, deaths=1)
    assert (15, "✗", "the lease of attempt 1 was over") in _course(died)


@pytest.mark.parametrize("state", State)
def test_every_state_has_words_for_the_present(state: State) -> None:
    for now in (T0 + 5, T0 + 40):
        present = [moment for moment in moments(replace(RUNNING, state=state, now=now)) if moment.sign is Sign.NOW]
        assert len(present) == 1
        assert present[0].text


def test_the_clock_of_the_asking_host_cannot_bend_the_line() -> None:
    """C2."""
    future = replace(RUNNING, attempt=2, attempt_id="ffffffff-ffff-7000-8000-000000000002")
    assert [moment.at for moment in moments(future)] == sorted(moment.at for moment in moments(future))
    assert all(moment.at <= future.now for moment in moments(future) if "claimed" in moment.text)
    assert begun_at("018bcfe5-6800-7000-8000-000000000001") == T0


def test_it_is_drawn_with_the_time_between() -> None:
    assert [click.unstyle(line) for line in drawn(moments(RUNNING))] == [
        "2023-11-14 22:13:20Z  ●  claimed by attempt 1",
        "                      │   5 s",
        "                 now  ◆  attempt 1 is in flight",
        "                      ┊   10 s",
        "2023-11-14 22:13:35Z  ○  the lease ends, unless it is renewed",
    ]


def test_what_a_caller_wrote_is_harmless_in_it() -> None:
    lines = list(drawn([Moment(T0, Sign.NOW, "parked: \x1b[2J")]))
    assert click.unstyle(lines[0]).endswith(r"parked: \x1b[2J")
