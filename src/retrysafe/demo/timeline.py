"""The story of one order that a ``kill -9`` caught between the bank and the checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import NamedTuple

from retrysafe.demo.bank import Posting
from retrysafe.demo.client import Told, Word
from retrysafe.demo.journal import Note
from retrysafe.demo.lanes import LEASE_SECONDS
from retrysafe.demo.report import LaneReport

# An attempt that was killed before its first renewal has exactly the lease that its claim began.
_RENEWED_AFTER_SECONDS = LEASE_SECONDS / 3

_RECORDED = "the outcome is recorded in the checkpoint"
_PARKED = "parked: nobody knows whether the charge happened, so nobody guesses"


class Moment(NamedTuple):
    """One line of a story; ``at`` in seconds since the order's first claim."""

    at: float
    text: str


class Story(NamedTuple):
    """What happened to one order."""

    order: str
    operation: str
    moments: Sequence[Moment]


def story_of_a_crash(report: LaneReport) -> Story | None:
    """Tell of an order whose server died around its charge, and what became of it; None when there is none to tell.

    Of several the simplest is told: complete, taken up by the recovery scan if there is one, few moments, first in
    number.
    """
    order_of = {note.operation: note.order for note in report.notes if note.order}
    notes_of: dict[str, list[Note]] = {operation: [] for operation in order_of}
    for note in report.notes:
        if note.operation in notes_of:
            notes_of[note.operation].append(note)
    stories = [_story(report, order_of[operation], notes) for operation, notes in notes_of.items()]
    return min((story for story in stories if story is not None), key=_complexity, default=None)


def _complexity(story: Story) -> tuple[bool, bool, int, str]:
    texts = [moment.text for moment in story.moments]
    # A kill between the record and its note leaves a hole here, too.
    ended = any(text.startswith((_RECORDED, _PARKED)) for text in texts)
    return (not ended, not any("scan" in text for text in texts), len(texts), story.order)


def _story(report: LaneReport, order: str, notes: Sequence[Note]) -> Story | None:
    # A next attempt, or giving up on it, is what proves that the one before died.
    claimed, parked = ([note.at for note in notes if note.what == what] for what in ("Claimed", "Parked"))
    turns = [*claimed, *parked[:1]]
    postings = [posting for posting in report.postings if posting.order == order]
    told = report.tally.told.get(order)
    # A kill between a claim and its note leaves a hole where the story should begin.
    whole = any(note.what == "Claimed" and note.attempt == 1 for note in notes)
    if not whole or len(turns) <= 1 or told is None or not postings or postings[0].at > turns[1]:
        return None
    crashes = list(_crashes(turns, report.kills))
    told_by = chain(_of_the_kills(crashes), _of_the_bank(postings, crashes), _of_the_guard(notes))
    moments = sorted([*told_by, Moment(told.at, _customer_hears(told))])
    return Story(order, notes[0].operation, [Moment(at - turns[0], text) for at, text in moments])


class _Crash(NamedTuple):
    claimed_at: float
    killed_at: float


def _crashes(turns: Sequence[float], kills: Sequence[float]) -> Iterator[_Crash]:
    """Find the kill that ended each attempt but the last."""
    for claimed_at, next_at in pairwise(turns):
        killed_at = next((at for at in kills if claimed_at < at < next_at), None)
        if killed_at is not None:
            yield _Crash(claimed_at, killed_at)


def _of_the_kills(crashes: Sequence[_Crash]) -> Iterator[Moment]:
    for claimed_at, killed_at in crashes:
        yield Moment(killed_at, "kill -9: the answer reaches neither the checkpoint nor the customer")
        if killed_at - claimed_at < _RENEWED_AFTER_SECONDS:
            yield Moment(claimed_at + LEASE_SECONDS, "the lease is over: the operation is abandoned")


def _of_the_bank(postings: Sequence[Posting], crashes: Sequence[_Crash]) -> Iterator[Moment]:
    for posting in postings:
        if posting.repeated:
            yield Moment(posting.at, f"the bank knows the key: still {posting.charge}, no second charge")
        else:
            dead = posting is postings[0] and crashes and posting.at > crashes[0].killed_at
            late = ", for a shop that is dead by now" if dead else ""
            yield Moment(posting.at, f"the bank makes charge {posting.charge}{late}")


def _of_the_guard(notes: Sequence[Note]) -> Iterator[Moment]:
    scanned = {note.attempt for note in notes if note.what == "Recovered"}
    parked = False
    for note in notes:
        match note.what:
            case "Claimed":
                who = "the recovery scan takes it over" if note.attempt in scanned else "a request claims it"
                yield Moment(note.at, f"attempt {note.attempt}: {who}")
            case "Recorded":
                yield Moment(note.at, _RECORDED)
            case "Parked" if not parked:
                parked = True
                yield Moment(note.at, _PARKED)
            case _:
                pass


def _customer_hears(told: Told) -> str:
    if told.word is Word.PAID:
        return f"the customer's retry gets its {told.status}" + (", a replay" if told.replayed else "")
    return f"the customer's retry gets {told.status} outcome-unknown: the truth, and no new key is minted"
