from dataclasses import replace

from retrysafe.demo.client import Told, Word
from retrysafe.demo.journal import Note
from retrysafe.demo.report import LaneReport
from retrysafe.demo.timeline import Story, story_of_a_crash
from retrysafe.protocol.states import State
from tests.demo.reports import paid, posting, report


def _crashed(*, scanned: bool = True) -> LaneReport:
    notes = [
        Note(10.0, "Claimed", "op", 1),
        Note(10.01, "Charging", "op", 1, "1"),
        *([Note(11.1, "Recovered", "op", 2)] if scanned else []),
        Note(11.1, "Claimed", "op", 2),
        Note(11.2, "Recorded", "op"),
    ]
    told = {"1": paid("1", at=11.5)}
    postings = [posting("1", at=10.05), posting("1", repeated=True, at=11.15)]
    return report(told, postings, {State.DONE: 1}, kills=[9.0, 10.1, 12.0], notes=notes)


def _texts(story: Story | None) -> list[str]:
    assert story is not None
    return [moment.text for moment in story.moments]


def test_the_story_goes_from_the_claim_over_the_kill_to_the_answer() -> None:
    story = story_of_a_crash(_crashed())
    assert _texts(story) == [
        "attempt 1: a request claims it",
        "the bank makes charge ch_1",
        "kill -9: the answer reaches neither the checkpoint nor the customer",
        "the lease is over: the operation is abandoned",
        "attempt 2: the recovery scan takes it over",
        "the bank knows the key: still ch_1, no second charge",
        "the outcome is recorded in the checkpoint",
        "the customer's retry gets its 201",
    ]
    assert story is not None
    assert [round(moment.at, 2) for moment in story.moments] == [0, 0.05, 0.1, 1, 1.1, 1.15, 1.2, 1.5]


def test_a_request_may_be_the_one_that_takes_over() -> None:
    assert "attempt 2: a request claims it" in _texts(story_of_a_crash(_crashed(scanned=False)))


def test_a_charge_after_the_kill_was_for_a_dead_shop() -> None:
    lane = replace(_crashed(), kills=[10.02])
    assert "the bank makes charge ch_1, for a shop that is dead by now" in _texts(story_of_a_crash(lane))


def test_a_parked_order_ends_with_the_truth() -> None:
    notes = [
        Note(10.0, "Claimed", "op", 1),
        Note(10.01, "Charging", "op", 1, "1"),
        Note(11.1, "Parked", "op"),
        Note(12.0, "Parked", "op"),
    ]
    told = {"1": Told(Word.UNKNOWN, 409, None, replayed=False, at=12.1)}
    lane = report(told, [posting("1", at=10.05)], {State.PARKED: 1}, kills=[10.1], notes=notes)
    texts = _texts(story_of_a_crash(lane))
    assert [text for text in texts if text.startswith("parked")] == [texts[4]]
    assert "409 outcome-unknown" in texts[5]


def test_a_story_whose_beginning_was_never_noted_is_not_told() -> None:
    lane = _crashed()
    assert story_of_a_crash(replace(lane, notes=lane.notes[1:])) is None


def test_without_a_crash_there_is_no_story() -> None:
    notes = [Note(10.0, "Claimed", "op", 1), Note(10.01, "Charging", "op", 1, "1"), Note(10.2, "Recorded", "op")]
    lane = report({"1": paid("1")}, [posting("1", at=10.1)], {State.DONE: 1}, kills=[10.5], notes=notes)
    assert story_of_a_crash(lane) is None
