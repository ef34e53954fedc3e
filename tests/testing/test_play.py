"""A flow can be played by hand."""

import pytest

from retrysafe.protocol import effects as fx
from retrysafe.protocol.effects import Flow, perform
from retrysafe.testing import Trace, play
from tests.protocol.samples import CHECKPOINT, claim

HELD, ESTIMATE = fx.StillHeld(claim()), fx.RetryAfter(CHECKPOINT)


def flow() -> Flow[str]:
    try:
        held = yield from perform(HELD)
    except ValueError:
        held = False
    seconds = yield from perform(ESTIMATE)
    return f"{held} {seconds}"


def test_a_flow_is_fed_its_answers_in_order() -> None:
    assert play(flow(), [True, 3]) == Trace((HELD, ESTIMATE), ended=True, returned="True 3")


def test_an_exception_is_raised_at_the_effect() -> None:
    assert play(flow(), [ValueError(), 3]).returned == "False 3"


def test_what_a_flow_raises_is_kept_and_not_raised() -> None:
    error = OSError()
    assert play(flow(), [error]) == Trace((HELD,), ended=True, raised=error)
    assert isinstance(play(flow(), [GeneratorExit()]).raised, GeneratorExit)


def test_a_flow_without_further_answers_is_left_where_it_is() -> None:
    assert play(flow(), [True]) == Trace((HELD, ESTIMATE), ended=False)
    assert play(flow()).kinds == (fx.StillHeld,)


def test_answers_that_nobody_asked_for_are_a_mistake_of_the_test() -> None:
    with pytest.raises(ValueError, match="1 answers unused, the first of them 4"):
        play(flow(), [True, 3, 4])
