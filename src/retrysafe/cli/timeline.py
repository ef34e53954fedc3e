"""What is known about the course of one operation, in order, and how it is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import click

from retrysafe.cli.words import duration, instant, printable
from retrysafe.protocol.model import Checkpoint
from retrysafe.protocol.operator import Audit
from retrysafe.protocol.states import FINAL, LEASED, State


class Sign(StrEnum):
    """How a moment looks; its words say the same."""

    HAPPENED = "●"
    FAILED = "✗"
    NOW = "◆"
    TO_COME = "○"
    UNKNOWN = "?"
    DONE = "✓"
    UNDONE = "↩"
    PIVOT = "┃"


_COLOURS = {
    Sign.HAPPENED: "green",
    Sign.FAILED: "red",
    Sign.NOW: "cyan",
    Sign.TO_COME: "white",
    Sign.UNKNOWN: "yellow",
    Sign.DONE: "green",
    Sign.UNDONE: "magenta",
    Sign.PIVOT: "blue",
}


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened, is, or will be.

    Attributes:
        at: instant by the store's clock.
        sign: how it looks.
        text: what it is.
        noted: False when the instant itself is not known, only its place in the order.
        details: more lines about it.
    """

    at: float
    sign: Sign
    text: str
    noted: bool = True
    details: tuple[str, ...] = ()


def moments(checkpoint: Checkpoint, steps: Iterable[Moment] = (), audit: Iterable[Audit] = ()) -> Sequence[Moment]:
    """Tell the course of an operation, earliest first, with the present among it.

    Args:
        checkpoint: what the store knows of it as a whole.
        steps: what it knows of its steps, in their order.
        audit: what persons did to it.
    """
    return sorted(_moments(checkpoint, steps, audit), key=lambda moment: moment.at)


def _moments(seen: Checkpoint, steps: Iterable[Moment], audit: Iterable[Audit]) -> Iterator[Moment]:
    # The order among equal instants is the order here, because sorting keeps it.
    yield Moment(seen.created_at, Sign.HAPPENED, "claimed by attempt 1")
    if seen.attempt > 1:
        # Turning back, and a person, count anew: then nobody knows how the attempts before ended.
        ends = f", {seen.deaths} of them ended without an outcome" if seen.deaths else ""
        yield Moment(seen.created_at, Sign.HAPPENED, f"{seen.attempt} attempts so far{ends}", noted=False)
    yield from steps
    by_hand = False
    for line in sorted(audit, key=lambda line: line.number):
        by_hand = line.fence_after == seen.fence
        yield Moment(line.at, Sign.HAPPENED, f"{line.verb} by {line.by}: {line.state_after}, fence {line.fence_after}")
    if seen.attempt > 1 and seen.state in LEASED:
        # By the clock of the host that asked, which need not be the store's: good enough to be looked at.
        at = min(max(begun_at(seen.attempt_id), seen.created_at), seen.now)
        yield Moment(at, Sign.HAPPENED, f"≈ claimed by attempt {seen.attempt}")
    # An attempt that parks its own operation did not die: its lease says nothing then.
    if seen.state in LEASED or (seen.state is State.PARKED and seen.deaths):
        yield from _lease(seen, by_hand=by_hand)
    if seen.finished_at is not None and not by_hand:
        word = "undone" if seen.state is State.UNDONE else "outcome recorded"
        yield Moment(seen.finished_at, Sign.HAPPENED, f"{word} by attempt {seen.attempt}")
    if seen.outcome_until is not None:
        over = seen.now >= seen.outcome_until
        text = "outcome's retention is over: a retry is answered 410" if over else "outcome is replayable until then"
        yield Moment(seen.outcome_until, Sign.HAPPENED if over else Sign.TO_COME, text)
    yield Moment(seen.now, Sign.NOW, _present(seen))
    if seen.state in FINAL or seen.state is State.RELEASED:
        over = seen.now >= seen.tombstone_until
        text = "tombstone is over: the key is free" if over else "the key is remembered until then (tombstone)"
        yield Moment(seen.tombstone_until, Sign.HAPPENED if over else Sign.TO_COME, text)


def begun_at(attempt_id: str) -> float:
    """Read when an id was made: a UUIDv7 begins with it, in milliseconds."""
    return int(attempt_id.replace("-", "")[:12], 16) / 1000


def _lease(seen: Checkpoint, *, by_hand: bool) -> Iterator[Moment]:
    if seen.lease_until <= seen.now and not by_hand:
        # A running operation has a reason only when its attempt ended its own lease, to leave it to another.
        postponed = seen.state is State.RUNNING and seen.reason is not None
        which = f"attempt {seen.attempt}"
        text = f"{which} ended without an outcome" if postponed else f"the lease of {which} was over"
        yield Moment(seen.lease_until, Sign.FAILED, text)
    if seen.state in LEASED and seen.lease_until > seen.now:
        yield Moment(seen.lease_until, Sign.TO_COME, "the lease ends, unless it is renewed")
    if seen.state in LEASED and seen.due_at > seen.now and seen.due_at > seen.lease_until:
        text = "the recovery scan looks at it again (back-off)" if seen.lease_until > seen.now else "it is due"
        yield Moment(seen.due_at, Sign.TO_COME, text)


def _present(seen: Checkpoint) -> str:
    match seen.state:
        case State.RUNNING | State.STREAMING | State.UNDOING if seen.lease_until > seen.now:
            return _in_flight(seen)
        case State.RUNNING | State.STREAMING | State.UNDOING:
            return _waiting(seen)
        case State.PARKED:
            return f"parked: {seen.reason or 'no reason is stored'}"
        case State.RELEASED:
            return "released: nothing happened that matters, the same request may try again"
        case State.DONE:
            return "done: a retry gets the recorded outcome" if seen.outcome_until is None else _kept(seen)
        case State.UNDONE:
            return "undone: every effect was taken back"
        case State.EXPIRED:
            return "expired: the outcome was dropped, a retry is refused"


def _in_flight(seen: Checkpoint) -> str:
    match seen.state:
        case State.STREAMING:
            return f"attempt {seen.attempt} streams its response"
        case State.UNDOING:
            why = f": {seen.reason}" if seen.reason else ""
            return f"attempt {seen.attempt} undoes what was done{why}"
        case _:
            return f"attempt {seen.attempt} is in flight"


def _waiting(seen: Checkpoint) -> str:
    """Say what an abandoned operation waits for, and why."""
    why = f": {seen.reason}" if seen.reason else ""
    what = "to be undone" if seen.state is State.UNDOING else "for its next attempt"
    if seen.due_at > seen.now:
        return f"waits {what}, due in {duration(seen.due_at - seen.now)}{why}"
    if seen.state is State.UNDOING:
        return f"abandoned: waits for the recovery scan to undo it{why}"
    return f"abandoned: waits for the recovery scan or for a retry{why}"


def _kept(seen: Checkpoint) -> str:
    if seen.outcome_until is not None and seen.now >= seen.outcome_until:
        return "done: the outcome is about to be dropped"
    return "done: a retry gets the recorded outcome"


def drawn(course: Sequence[Moment]) -> Iterator[str]:
    """Draw moments as lines, one below the other, with the time between them."""
    width = max(len(instant(moment.at)) for moment in course)
    for before, moment in pairwise([None, *course]):
        if moment is None:
            continue
        if before is not None and moment.at - before.at >= 0.0005:
            future = moment.at > before.at and moment.sign is Sign.TO_COME
            rail = "┊" if future else "│"
            yield click.style(f"{'':{width}}  {rail}   {duration(moment.at - before.at)}", dim=True)
        when = "now" if moment.sign is Sign.NOW else instant(moment.at) if moment.noted else ""
        sign = click.style(moment.sign.value, fg=_COLOURS[moment.sign], bold=True)
        yield f"{when:>{width}}  {sign}  {printable(moment.text)}"
        yield from (click.style(f"{'':{width}}  │    {printable(detail)}", dim=True) for detail in moment.details)
