"""``retrysafe ops resume``, ``undo``, ``settle`` and ``release``: what a person decides about one operation (R10).

Each says first, in plain words, what would follow, and then asks. It applies to the operation as it was shown: one that
went on meanwhile is left alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, NoReturn

import click
from msgspec.structs import replace

from retrysafe.cli.arguments import line, read, said, seconds, which
from retrysafe.cli.complaints import FAILURE, Complaint, Misuse
from retrysafe.cli.opening import opened
from retrysafe.cli.prospects import judged, next_sentence, sentences, standing
from retrysafe.cli.settling import Settlement
from retrysafe.cli.terminal import asked, say, say_json
from retrysafe.protocol.encoding import encode_outcome
from retrysafe.protocol.model import Checkpoint, Outcome
from retrysafe.protocol.operator import Intervention, Move, Refusal, Verb
from retrysafe.protocol.steps import History
from retrysafe.stores.base import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who decides, and how they say so.

    Attributes:
        by: their name.
        note: why.
        yes: they need not be asked.
        fence: the one that they saw; None is that of now.
        as_json: a program listens.
    """

    by: str | None
    note: str | None
    yes: bool
    fence: int | None
    as_json: bool


def by_a_person(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command what every intervention needs, as its ``arguments`` and its ``person``."""

    @wraps(command)
    def called(
        *, by: str | None, note: str | None, fence: int | None, yes: bool, as_json: bool, **rest: object
    ) -> None:
        command(person=Person(by=by, note=note, yes=yes, fence=fence, as_json=as_json), **rest)

    options = (
        click.argument("arguments", nargs=-1, metavar="[STORE_URL] OPERATION_ID"),
        click.option("--by", metavar="NAME", callback=said, help="Who decides; for the audit."),
        click.option("--note", metavar="TEXT", callback=said, help="Why; one line, for the audit."),
        click.option("--fence", type=int, help="Only while the operation has this fence, as ops show printed it."),
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--json", "as_json", is_flag=True, help="For programs."),
    )
    for option in reversed(options):
        called = option(called)
    return called


@click.command(short_help="Let recovery go on with an operation.")
@by_a_person
def resume(*, arguments: Sequence[str], person: Person) -> None:
    """Let recovery go on with a parked or abandoned operation, forward or back as it was.

    Its attempts are counted anew. Mode `once` is never run again: settle it, or release it.
    """
    _intervene(Verb.RESUME, arguments, person)


@click.command(short_help="Have an operation's steps undone in reverse.")
@by_a_person
def undo(*, arguments: Sequence[str], person: Person) -> None:
    """Have the steps of a parked or abandoned operation undone in reverse.

    Only mode `steps` can, before its pivot. It never goes forward again.
    """
    _intervene(Verb.UNDO, arguments, person)


@click.command(short_help="Record the outcome that you found out.")
@by_a_person
@click.option("--status", type=click.IntRange(200, 599), metavar="N", help="What its client is answered from now on.")
@click.option("--body", metavar="TEXT|@FILE", help="The answer's body.")
@click.option("--content-type", metavar="TYPE", help="The body's media type; told by the body if left out.")
@click.option("--undone", is_flag=True, help="Every effect was taken back by hand; 409 without --status.")
@click.option(
    "--retention", default="24h", show_default=True, callback=seconds, metavar="TIME", help="How long it is replayable."
)
def settle(
    *,
    arguments: Sequence[str],
    status: int | None,
    body: str | None,
    content_type: str | None,
    undone: bool,
    retention: float,
    person: Person,
) -> None:
    """Record the outcome of a parked or abandoned operation that you found out.

    Its client gets it as a replay, and nothing runs.
    """
    settlement = Settlement(
        status=status, body=body, content_type=content_type, undone=undone, retention_seconds=retention
    )
    _intervene(Verb.SETTLE, arguments, person, settlement)


@click.command(short_help="Free the key: nothing happened.")
@by_a_person
def release(*, arguments: Sequence[str], person: Person) -> None:
    """Free the key of a parked or abandoned operation for the same request, because nothing happened.

    The client's retry runs it.
    """
    _intervene(Verb.RELEASE, arguments, person)


def _intervene(verb: Verb, arguments: Sequence[str], person: Person, settlement: Settlement | None = None) -> None:
    store_url, operation_id = which(verb, arguments)
    if settlement is not None:
        settlement.check()
    intervention = _signed(verb, person)
    with opened(store_url) as store:
        history = read(store, operation_id)
        seen = history.checkpoint
        answer = None if settlement is None else settlement.outcome(seen)
        intervention = _settling(intervention, seen, settlement, answer)
        what = _prospect(history, intervention, answer)
        move = _judged(history, intervention, person)
        if not person.yes:
            _ask(what, _document(intervention, seen, what, move.state, seen.fence + 1), person)
        after = _carried_out(store, history, intervention)
    if person.as_json:
        document = _document(intervention, seen, what, after.state, after.fence)
        say_json(document | {"carried_out": True, "next": next_sentence(after)})
        return
    state = click.style(after.state.value, bold=True)
    say(f"{seen.operation_id} is {state} now, with fence {after.fence}: {next_sentence(after)}")


def _signed(verb: Verb, person: Person) -> Intervention:
    """Note who decides, and why; a person at a terminal is asked for what is missing."""
    by, note = person.by, person.note
    if asked() and not person.yes and not person.as_json:
        by = by or click.prompt("who decides", default=os.environ.get("USER") or None, value_proc=line)
        note = note or click.prompt("why", value_proc=line)
    if not by or not note:
        raise Misuse(f"`{verb}` needs --by NAME and --note TEXT: both go into the audit")
    return Intervention(verb, by, note)


def _settling(
    intervention: Intervention, seen: Checkpoint, settlement: Settlement | None, answer: Outcome | None
) -> Intervention:
    if settlement is None or answer is None:
        return intervention
    return replace(
        intervention,
        outcome=encode_outcome(answer),
        undone=settlement.undone,
        retention_seconds=settlement.retention_seconds,
        # What its policy said when it was claimed.
        tombstone_seconds=max(seen.tombstone_until - seen.created_at, settlement.retention_seconds),
    )


def _prospect(history: History, intervention: Intervention, answer: Outcome | None) -> str:
    follows = sentences(
        history,
        intervention.verb,
        answer,
        undone=intervention.undone,
        retention_seconds=intervention.retention_seconds,
    )
    return f"{standing(history.checkpoint)}. After this {'. '.join(follows)}."


def _judged(history: History, intervention: Intervention, person: Person) -> Move:
    seen = history.checkpoint
    if person.fence is not None and person.fence != seen.fence:
        went_on = f"the operation went on meanwhile: it is {seen.state} with fence {seen.fence}, not {person.fence}"
        _refuse(seen, Refusal(f"{went_on}; look at it again"))
    judgement = judged(history, intervention)
    if isinstance(judgement, Refusal):
        _refuse(seen, judgement)
    return judgement


def _carried_out(store: Store, history: History, intervention: Intervention) -> Checkpoint:
    seen = history.checkpoint
    # Neither fence nor state tells that a late attempt wrote what its step gave, while the person made up their mind.
    latest = store.query(partial(store.verbs.trail, seen.digest))
    if latest is not None and latest.checkpoint.fence == seen.fence and latest.memos != history.memos:
        _refuse(seen, Refusal("the operation went on meanwhile: more is known of its steps; look at it again"))
    after = store.run(partial(store.verbs.intervene, seen, intervention))
    if isinstance(after, Refusal):
        _refuse(seen, after)
    return after


def _refuse(seen: Checkpoint, refusal: Refusal) -> NoReturn:
    raise Complaint(
        refusal.reason,
        where=f"{seen.operation_id}  {seen.name}",
        facts=["nothing was changed"],
        fixes=[f"retrysafe ops show {seen.operation_id[:18]} says what fits"],
    )


def _ask(what: str, document: dict[str, Any], person: Person) -> None:
    """Say what would follow, and go on only if a person at the terminal wants it."""
    if person.as_json:
        say_json(document | {"carried_out": False})
    else:
        say(what)
    if person.as_json or not asked():
        raise Misuse("nothing was changed: nobody can be asked here", fixes=["add --yes"])
    if not click.confirm("go on?"):
        say("nothing was changed")
        click.get_current_context().exit(FAILURE)


def _document(intervention: Intervention, seen: Checkpoint, what: str, state: str, fence: int) -> dict[str, Any]:
    return {
        "operation": seen.operation_id,
        "verb": intervention.verb.value,
        "by": intervention.by,
        "note": intervention.note,
        "what": what,
        "before": {"state": seen.state.value, "fence": seen.fence},
        "after": {"state": str(state), "fence": fence},
    }
