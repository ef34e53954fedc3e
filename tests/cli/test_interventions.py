"""``retrysafe ops resume``, ``undo``, ``settle``, ``release``: what a person decides, and is told before and after."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from retrysafe.protocol.encoding import decode_outcome
from retrysafe.protocol.model import Claim, Mode, Outcome
from retrysafe.protocol.states import State
from retrysafe.protocol.steps import StepKind, StepStatus
from retrysafe.protocol.verdicts import Claimed, Finished, Parked
from retrysafe.testing.asks import some_terms
from tests.cli.conftest import Run, Shop, Terminal

SIGNED = ("--by", "ada", "--note", "the bank says so")
NOW = (*SIGNED, "--yes")


def _outcome(shop: Shop, claim: Claim) -> Outcome:
    kept = shop.read(claim).outcome
    assert kept is not None
    return decode_outcome(kept)


def test_a_settled_operation_is_replayed_and_runs_nothing(run: Run, shop: Shop) -> None:
    """R10, I1."""
    claim = shop.claim("k-1")
    shop.park(claim)
    told = run("ops", "settle", shop.url, claim.operation_id, "--status", 201, "--body", '{"id": 7}', *NOW)
    assert told.exit_code == 0, told.stderr
    assert f"{claim.operation_id} is done now, with fence 2: its client's retry gets 201" in told.stdout
    found = shop.asked_again("k-1")
    assert isinstance(found, Finished)
    outcome = _outcome(shop, claim)
    assert outcome == Outcome(201, ((b"Content-Type", b"application/json"),), b'{"id": 7}')


def test_a_settled_operation_is_kept_as_long_as_its_claim_said(run: Run, shop: Shop) -> None:
    """S10."""
    claim = shop.claim("k-1", tombstone_seconds=3 * 86_400.0)
    shop.park(claim)
    assert (
        run("ops", "settle", shop.url, claim.operation_id, "--status", 204, "--retention", "48h", *NOW).exit_code == 0
    )
    seen = shop.read(claim)
    assert seen.finished_at is not None
    assert seen.outcome_until == pytest.approx(seen.finished_at + 2 * 86_400)
    assert seen.tombstone_until == pytest.approx(seen.finished_at + 3 * 86_400)


def test_a_released_key_is_claimed_again_and_the_late_attempt_is_refused(run: Run, shop: Shop) -> None:
    """R10, C4."""
    claim = shop.claim("k-1")
    shop.park(claim)
    told = run("ops", "release", claim.operation_id, shop.url, *NOW)
    assert told.exit_code == 0, told.stderr
    assert "is released now, with fence 2: the client's retry runs it" in told.stdout
    shop.record(claim)
    assert shop.read(claim).state is State.RELEASED
    verdict = shop.asked_again("k-1")
    assert isinstance(verdict, Claimed)
    assert verdict.claim.operation_id == claim.operation_id
    assert verdict.claim.fence == 3


def test_a_resumed_operation_is_due_at_once_and_its_attempts_count_anew(run: Run, shop: Shop) -> None:
    """R8, R10."""
    claim = shop.order()
    shop.park(claim)
    told = run("ops", "resume", shop.url, claim.operation_id, *NOW)
    assert told.exit_code == 0, told.stderr
    assert "is running now, with fence 2: the next scan runs it" in told.stdout
    seen = shop.read(claim)
    [due] = shop.store.query(partial(shop.store.verbs.abandoned, 10))
    assert due.operation_id == claim.operation_id
    # The first to take it over counts the attempt before, which was none.
    assert (seen.deaths, seen.undoing) == (-1, False)
    verdict = shop.store.run(partial(shop.store.verbs.reclaim, seen, some_terms()))
    assert isinstance(verdict, Claimed)


def test_an_operation_without_its_request_is_left_to_its_client(run: Run, shop: Shop) -> None:
    """R13."""
    claim = shop.claim("k-1", mode=Mode.AGAIN)
    shop.park(claim)
    told = run("ops", "resume", shop.url, claim.operation_id, *NOW)
    assert "the client's retry runs it" in told.stdout


def test_an_undone_operation_is_given_to_the_scan_and_never_goes_forward(run: Run, shop: Shop) -> None:
    """R7, R10, I9."""
    claim = shop.order()
    shop.park(claim)
    told = run("ops", "undo", shop.url, claim.operation_id, *NOW)
    assert told.exit_code == 0, told.stderr
    assert "is undoing now, with fence 2: the next scan undoes it" in told.stdout
    assert shop.read(claim).undoing
    released = run("ops", "release", shop.url, claim.operation_id, *NOW)
    assert released.exit_code == 1
    assert "never goes forward again" in released.stderr


def test_what_was_undone_by_hand_is_answered_409_with_a_new_key_allowed(run: Run, shop: Shop) -> None:
    claim = shop.order()
    shop.park(claim)
    told = run("ops", "settle", shop.url, claim.operation_id, "--undone", *NOW)
    assert told.exit_code == 0, told.stderr
    assert shop.read(claim).state is State.UNDONE
    outcome = _outcome(shop, claim)
    assert outcome.status == 409
    problem = json.loads(outcome.body or b"")
    assert (problem["code"], problem["new_key_safe"]) == ("operation-undone", True)
    assert problem["operation"] == claim.operation_id


def test_what_was_undone_by_hand_keeps_the_answer_that_it_had_or_is_given(run: Run, shop: Shop) -> None:
    """R7."""
    kept, given = shop.order("k-1"), shop.order("k-2")
    for claim in (kept, given):
        shop.begin_undo(claim, "the operation answered 422", Outcome(422, (), b"sold out"))
        shop.park(claim)
    assert run("ops", "settle", shop.url, kept.operation_id, "--undone", *NOW).exit_code == 0
    assert run("ops", "settle", shop.url, given.operation_id, "--undone", "--status", "410", *NOW).exit_code == 0
    assert _outcome(shop, kept) == Outcome(422, (), b"sold out")
    assert _outcome(shop, given) == Outcome(410, (), b"")
    assert {shop.read(claim).state for claim in (kept, given)} == {State.UNDONE}


@pytest.mark.parametrize("verb", ["resume", "undo", "settle", "release"])
@pytest.mark.parametrize("missing", [("--by", "ada"), ("--note", "why"), ("--by", "ada", "--note", "  ")])
def test_a_name_and_a_note_are_needed(run: Run, shop: Shop, verb: str, missing: tuple[str, ...]) -> None:
    """R10."""
    claim = shop.claim("k-1")
    shop.park(claim)
    outcome = ["--status", "201"] if verb == "settle" else []
    told = run("ops", verb, shop.url, claim.operation_id, *outcome, "--yes", *missing)
    assert told.exit_code == 2
    assert told.stderr == f"error: `{verb}` needs --by NAME and --note TEXT: both go into the audit\n"
    assert shop.read(claim).fence == 1


def test_a_note_is_one_line(run: Run, shop: Shop) -> None:
    claim = shop.claim("k-1")
    shop.park(claim)
    for note in ("two\nlines", "\x1b[2J", "\udc80"):
        assert run("ops", "release", shop.url, claim.operation_id, "--by", "a", "--note", note, "--yes").exit_code == 2


def test_without_a_terminal_it_says_what_would_follow_and_changes_nothing(run: Run, shop: Shop) -> None:
    claim = shop.claim("k-1")
    shop.park(claim, "the attempt ended without an outcome")
    told = run("ops", "settle", shop.url, claim.operation_id, "--status", 201, "--body", "made", *SIGNED)
    assert told.exit_code == 2
    assert told.stdout == (
        f"{claim.operation_id[:18]}… POST /charges is parked with fence 1: the attempt ended without an outcome. "
        "After this it is done: its client gets 201 (text/plain; charset=utf-8, 4 B) for 24 h, and nothing runs.\n"
    )
    assert "add --yes" in told.stderr
    assert shop.read(claim).state is State.PARKED


def test_programs_get_the_same_fields_before_and_after(run: Run, shop: Shop) -> None:
    claim = shop.claim("k-1", mode=Mode.AGAIN)
    shop.park(claim)
    command = ("ops", "resume", shop.url, claim.operation_id, *SIGNED, "--json")
    before, after = run(*command), run(*command, "--yes")
    assert (before.exit_code, after.exit_code) == (2, 0)
    would, did = json.loads(before.stdout), json.loads(after.stdout)
    assert (would.pop("carried_out"), did.pop("carried_out")) == (False, True)
    assert did.pop("next") == "the client's retry runs it"
    assert would == did
    assert did["before"] == {"state": "parked", "fence": 1}
    assert did["after"] == {"state": "running", "fence": 2}


# Refusals.


def _refused(run: Run, shop: Shop, claim: Claim, *arguments: Any) -> str:
    before = shop.read(claim)
    verb, *options = arguments
    told = run("ops", verb, shop.url, claim.operation_id, *options, *NOW)
    assert told.exit_code == 1, told.output
    assert "nothing was changed" in told.stderr
    assert f"--> {claim.operation_id}" in told.stderr
    after = shop.read(claim)
    assert (after.state, after.fence) == (before.state, before.fence)
    return told.stderr


def test_a_verb_that_does_not_fit_says_which_does(run: Run, shop: Shop) -> None:
    once, again = shop.claim("k-1"), shop.claim("k-2", mode=Mode.AGAIN)
    shop.park(once)
    shop.park(again)
    assert "`settle` it, or `release` it" in _refused(run, shop, once, "resume")
    assert "undo it by hand, then `settle --undone`" in _refused(run, shop, again, "undo")


def test_what_is_in_flight_or_final_is_left_alone(run: Run, shop: Shop) -> None:
    running, done = shop.claim("k-1", mode=Mode.AGAIN, lease_seconds=600), shop.claim("k-2", mode=Mode.AGAIN)
    shop.record(done)
    for verb in (["resume"], ["release"], ["settle", "--status", "200"]):
        assert "an attempt is in flight" in _refused(run, shop, running, *verb)
        assert "the operation is done" in _refused(run, shop, done, *verb)


def test_nothing_is_undone_past_its_pivot(run: Run, shop: Shop) -> None:
    """R7."""
    claim = shop.order()
    shop.memo(claim, "pivot", 3, kind=StepKind.PIVOT)
    shop.park(claim)
    assert "has passed its pivot" in _refused(run, shop, claim, "undo")


def test_the_fence_that_a_person_saw_is_compared(run: Run, shop: Shop) -> None:
    """R10, C4."""
    claim = shop.claim("k-1", mode=Mode.AGAIN)
    shop.park(claim)
    assert "with fence 1, not 2" in _refused(run, shop, claim, "release", "--fence", 2)
    assert run("ops", "release", shop.url, claim.operation_id, "--fence", 1, *NOW).exit_code == 0


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ([], "--status N says what the client is answered, or --undone"),
        (["--undone", "--body", "x"], "--body needs --status"),
        (["--status", 200, "--content-type", "text/plain"], "--content-type needs --body"),
        (["--status", 204, "--body", "x"], "has no body"),
        (["--status", 200, "--body", "x", "--content-type", "a\nb"], "no media type"),
        (["--status", 200, "--body", "@nowhere.json"], "can't be read from 'nowhere.json'"),
        (["--status", 99], "99"),
        (["--status", 200, "--retention", "long"], "a number and its unit"),
    ],
)
def test_an_outcome_that_is_none_is_a_usage_error(run: Run, shop: Shop, options: list[Any], what: str) -> None:
    claim = shop.claim("k-1")
    shop.park(claim)
    told = run("ops", "settle", shop.url, claim.operation_id, *options, *NOW)
    assert told.exit_code == 2
    assert what in told.stderr
    assert shop.read(claim).state is State.PARKED


@pytest.mark.parametrize(
    ("name", "content", "content_type"),
    [
        ("answer.json", b'{"id": 7}', b"application/json"),
        ("answer", b' ["a"]', b"application/json"),
        ("answer", b"made", b"text/plain; charset=utf-8"),
        ("answer", b"\xff\x00", b"application/octet-stream"),
    ],
)
def test_a_body_may_come_from_a_file(run: Run, shop: Shop, *, name: str, content: bytes, content_type: bytes) -> None:
    claim = shop.claim("k-1")
    shop.park(claim)
    file = shop.path.with_name(name)
    file.write_bytes(content)
    told = run("ops", "settle", shop.url, claim.operation_id, "--status", 200, "--body", f"@{file}", *NOW)
    assert told.exit_code == 0, told.stderr
    assert _outcome(shop, claim) == Outcome(200, ((b"Content-Type", content_type),), content)


def test_a_verb_needs_an_operation(run: Run, shop: Shop) -> None:
    told = run("ops", "resume", shop.url, *NOW)
    assert told.exit_code == 2
    assert "retrysafe ops resume STORE_URL OPERATION_ID" in told.stderr


# At a terminal.


def test_a_person_at_a_terminal_is_told_and_asked(shop: Shop, terminal: Callable[..., Terminal]) -> None:
    claim = shop.claim("k-1")
    shop.park(claim)
    person = terminal("ops", "release", shop.url, claim.operation_id, *SIGNED)
    assert "After this the key is free for the same request" in " ".join(person.until("go on?").split())
    person.type("n")
    assert person.end() == 1
    assert "nothing was changed" in person.seen
    assert shop.read(claim).state is State.PARKED
    person = terminal("ops", "release", shop.url, claim.operation_id, *SIGNED)
    person.until("go on?")
    person.type("y")
    assert person.end() == 0
    assert shop.read(claim).state is State.RELEASED


def test_a_person_at_a_terminal_is_asked_for_what_is_missing(
    shop: Shop, run: Run, terminal: Callable[..., Terminal]
) -> None:
    claim = shop.claim("k-1")
    shop.park(claim)
    person = terminal("ops", "release", shop.url, claim.operation_id)
    person.until("who decides [ada]:")
    person.type("")
    person.until("why:")
    person.type("no charge at the bank")
    person.until("go on?")
    person.type("y")
    assert person.end() == 0
    assert "ada: no charge at the bank" in run("ops", "audit", shop.url).stdout


@pytest.mark.parametrize("change", ["outcome", "memo"])
def test_what_changes_while_a_person_thinks_is_left_alone(
    shop: Shop, terminal: Callable[..., Terminal], change: str
) -> None:
    """R10: the verb applies to the operation as it was shown."""
    claim = shop.order()
    shop.park(claim)
    person = terminal("ops", "release", shop.url, claim.operation_id, *SIGNED)
    person.until("go on?")
    if change == "outcome":
        shop.record(claim)
    else:
        shop.memo(claim, "charge", 2, StepStatus.DONE, undo="shop:refund", timeout_seconds=600.0)
    person.type("y")
    assert person.end() == 1
    assert "the operation went on meanwhile" in person.seen
    assert shop.read(claim).state is (State.DONE if change == "outcome" else State.PARKED)


def test_a_parked_operation_stays_parked_for_its_client_until_then(shop: Shop) -> None:
    """S6."""
    claim = shop.claim("k-1")
    shop.park(claim)
    assert isinstance(shop.asked_again("k-1"), Parked)
