"""Driving a flow: sync and async alike, and what ends it."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from retrysafe import Mode, StoreUnavailable
from retrysafe.protocol import effects as fx
from retrysafe.protocol.effects import AnyEffect, Flow
from retrysafe.protocol.flows import handle
from retrysafe.protocol.verdicts import Claimed, Expired, Finished, InFlight, Mismatch, Parked
from retrysafe.runtime.drive import adrive, drive
from tests.protocol.samples import ASK, CHECKPOINT, DONE, OUTCOME, claim
from tests.runtime.rig import CREATED, ONCE, auntil, raised, returned

RETURNED = returned()
DOWN = StoreUnavailable("down")

Answers = list[object]

SCENARIOS: dict[str, Answers] = {
    "recorded": [Claimed(claim()), RETURNED, fx.Written()],
    "superseded": [Claimed(claim()), RETURNED, fx.Superseded(), DONE, True],
    "superseded without a winner": [Claimed(claim()), RETURNED, fx.Superseded(), None],
    "record failed": [Claimed(claim()), RETURNED, DOWN, None],
    "record failed, lease lost": [Claimed(claim(Mode.AGAIN)), RETURNED, DOWN, None, False],
    "raised": [Claimed(claim()), raised(ValueError("x")), fx.Written()],
    "streamed": [Claimed(claim()), fx.Began(OUTCOME), fx.Written(), fx.Ended(), fx.Written()],
    "replayed": [Finished(DONE), True],
    "in flight": [InFlight(CHECKPOINT), 7],
    "waited, then replayed": [InFlight(CHECKPOINT), True, Finished(DONE), True],
    "mismatch": [Mismatch(CHECKPOINT)],
    "parked": [Parked(CHECKPOINT)],
    "expired": [Expired(CHECKPOINT)],
    "store down": [DOWN],
}

Ending = tuple[list[AnyEffect], object]


def _perform(asked: list[AnyEffect], answers: Answers) -> Callable[[AnyEffect], Any]:
    def perform(effect: AnyEffect) -> Any:
        asked.append(effect)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return perform


def _driven(answers: Answers) -> Ending:
    asked: list[AnyEffect] = []
    flow = handle(ASK, ONCE, 1.0)
    reply: object = None
    try:
        while isinstance(step := drive(flow, _perform(asked, answers), reply), fx.Execute | fx.Forward):
            asked.append(step)
            reply = answers.pop(0)
    except Exception as error:  # noqa: BLE001 - how it ended is what is compared
        return asked, (type(error), str(error))
    return asked, step


async def _adriven(answers: Answers) -> Ending:
    asked: list[AnyEffect] = []
    perform = _perform(asked, answers)

    async def aperform(effect: AnyEffect) -> Any:
        await asyncio.sleep(0)
        return perform(effect)

    flow = handle(ASK, ONCE, 1.0)
    reply: object = None
    try:
        while isinstance(step := await adrive(flow, aperform, reply), fx.Execute | fx.Forward):
            asked.append(step)
            reply = answers.pop(0)
    except Exception as error:  # noqa: BLE001 - how it ended is what is compared
        return asked, (type(error), str(error))
    return asked, step


@pytest.mark.parametrize("name", SCENARIOS)
def test_sync_and_async_ask_for_the_same_things_and_end_alike(name: str) -> None:
    """Neither driver knows more than the other (C1, C4, C6, D1, D2)."""
    driven = _driven(list(SCENARIOS[name]))
    assert driven == asyncio.run(_adriven(list(SCENARIOS[name])))
    assert driven[0]


def test_what_an_operation_returned_leaves_only_behind_its_record() -> None:
    """S1."""
    asked, answer = _driven(list(SCENARIOS["recorded"]))
    assert [type(effect) for effect in asked] == [fx.Claim, fx.Execute, fx.Record]
    assert answer == fx.Fresh(CREATED)


def _watchful(told: list[str]) -> Flow[None]:
    """A flow that would go on after any exception it is allowed to see."""
    try:
        yield fx.Read(b"d" * 16)
    except Exception:  # noqa: BLE001 - it would go on after anything
        told.append("an exception")
    except BaseException:
        told.append("the end")
        raise
    yield fx.Read(b"e" * 16)


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_an_end_beyond_exception_closes_the_flow_and_performs_nothing_more(end: type[BaseException]) -> None:
    """It counts as a crash (C7)."""
    told: list[str] = []
    asked: list[AnyEffect] = []

    def perform(effect: AnyEffect) -> None:
        asked.append(effect)
        raise end

    flow = _watchful(told)
    with pytest.raises(end):
        drive(flow, perform)
    assert inspect.getgeneratorstate(flow) == inspect.GEN_CLOSED
    assert asked == [fx.Read(b"d" * 16)]
    assert told == ["the end"]


def test_cancelling_closes_the_flow_and_performs_nothing_more() -> None:
    """It counts as a crash (C7)."""
    told: list[str] = []
    asked: list[AnyEffect] = []
    flow = _watchful(told)

    async def perform(effect: AnyEffect) -> None:
        asked.append(effect)
        await asyncio.Event().wait()

    async def cancelled() -> None:
        task = asyncio.create_task(adrive(flow, perform))
        await auntil(lambda: asked, "it is suspended in the effect")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert inspect.getgeneratorstate(flow) == inspect.GEN_CLOSED
    assert len(asked) == 1
    assert told == ["the end"]
