"""The ordinary course ends as the flow does, whatever the store answers and whatever the operation did."""

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from retrysafe import Final, HttpRequest, NoEffect, Policy, Response
from retrysafe.http.replay import outcome_of
from retrysafe.protocol import effects as fx
from retrysafe.protocol.flows import handle
from retrysafe.protocol.ordinary import Ordinary
from retrysafe.runtime.runs import AsyncRun, Hooks, Run
from retrysafe.testing.faults import fail
from tests.runtime.rig import CREATED, NAME, Rig, ask, nobody, raised, returned

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
REQUEST = HttpRequest("POST", b"/charges", b"", (), b"{}")
POLICIES = {
    "once": Policy(),
    "again": Policy(mode="again"),
    "steps": Policy(mode="steps"),
    "fail open": Policy(fail_open=True),
    "releases 201": Policy(release_on=frozenset({201})),
}
DEEDS: dict[str, Callable[[], fx.Reply]] = {
    "returned": returned,
    "failed": lambda: returned(Response(503, "later")),
    "refused": lambda: returned(Response(422, "no")),
    "too large": lambda: fx.Returned(CREATED, outcome_of(CREATED, keep_body=False)),
    "streamed": lambda: fx.Began(outcome_of(CREATED, keep_body=False)),
    "raised": lambda: raised(ValueError("x")),
    "no effect": lambda: raised(NoEffect(CREATED)),
    "final": lambda: raised(Final(CREATED)),
}


def nothing(_: Rig) -> None:
    """The key is free, and all goes well."""


def finished(rig: Rig) -> None:
    rig.begin()[0].advance(returned())


def finished_without_its_body(rig: Rig) -> None:
    rig.begin()[0].advance(DEEDS["too large"]())


def in_flight(rig: Rig) -> None:
    rig.begin()


def abandoned(rig: Rig) -> None:
    rig.claim(POLICIES["again"])
    rig.time.advance(POLICIES["again"].lease_seconds + 1)


def used_for_another_request(rig: Rig) -> None:
    Run(rig.engine, handle(ask(body=b"[]"), POLICIES["once"]), POLICIES["once"], name=NAME, stop=nobody).advance()


def store_down(rig: Rig) -> None:
    rig.store.plan(fail("claim"))


def store_down_behind_the_effect(rig: Rig) -> None:
    rig.store.plan(fail("record"))


WORLDS = (
    nothing,
    finished,
    finished_without_its_body,
    in_flight,
    abandoned,
    used_for_another_request,
    store_down,
    store_down_behind_the_effect,
)


def _told(course: Callable[[], fx.Execute | fx.Forward | fx.Answer]) -> object:
    try:
        return course()
    except Exception as error:  # noqa: BLE001 - compared with the other's
        return type(error), _UUID.sub("", str(error))


def _course(run: Run[fx.Answer], deed: fx.Reply, superseded: Callable[[], None]) -> Iterator[object]:
    step = _told(run.advance)
    while isinstance(step, fx.Execute | fx.Forward):
        yield type(step), getattr(step.claim, "fence", None)
        superseded()
        answer: Any = deed if isinstance(step, fx.Execute) else fx.Ended()
        step = _told(lambda answer=answer: run.advance(answer))  # type: ignore[misc]
    yield step


class _OnLoop:
    """An asynchronous run, asked as if it were none."""

    def __init__(self, run: AsyncRun[fx.Answer]) -> None:
        self._run = run

    def advance(self, reply: fx.Reply | fx.Ended | None = None) -> object:
        return asyncio.run(self._run.advance(reply))


def _lived(flow: Callable[..., Any], policy: Policy, world: Callable[[Rig], None], deed: str, how: str) -> object:
    rig = Rig()
    world(rig)
    made = AsyncRun if how == "loop" else Run
    run: Any = made(
        rig.engine, flow(ask(policy), policy), policy, name=NAME, stop=nobody, request=REQUEST, hooks=Hooks()
    )
    run = _OnLoop(run) if how == "loop" else run

    def superseded() -> None:
        if how == "superseded":
            rig.time.advance(policy.lease_seconds + 1)
            again = Policy(mode=policy.mode)
            _told(Run(rig.engine, handle(ask(again), again), again, name=NAME, stop=nobody).advance)

    course = [_anonymous(step) for step in _course(run, DEEDS[deed](), superseded)]
    met = rig.store.query(lambda: rig.store.verbs.read(ask().identity.digest))
    return course, rig.events.kinds, met and (met.state, met.fence, met.outcome, met.reason)


def _anonymous(step: object) -> object:
    """Leave out what differs from run to run."""
    if isinstance(step, fx.Replayed):
        return "replayed", step.response
    return repr(step) if isinstance(step, fx.Reraise) else step


@pytest.mark.parametrize("how", ["thread", "loop", "superseded"])
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_request_ends_on_its_ordinary_course_as_in_its_flow(
    policy: str, world: Callable[[Rig], None], how: str
) -> None:
    """S1, S3, S6, C4, D1, D2, F1: in answers, events and checkpoints."""
    for deed in DEEDS:
        found, expected = (_lived(flow, POLICIES[policy], world, deed, how) for flow in (Ordinary, handle))
        assert found == expected, deed
