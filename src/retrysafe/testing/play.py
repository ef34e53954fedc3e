"""Playing a flow without a runtime: feed it answers, see what it asked for and how it ended.

::

    trace = play(handle(ask, policy), [Claimed(claim), Returned(response, outcome), Written()])
    assert trace.asked == (Claim(ask), Execute(claim), Record(claim, outcome, policy))
    assert trace.returned == Fresh(response)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from retrysafe.protocol.effects import Effect, Flow

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Trace(Generic[T]):
    """What happened in a flow.

    Attributes:
        asked: every effect that it yielded, in order, with the one that got no answer.
        ended: True when it returned or raised, False when it waits for the answer to its last effect.
        returned: what it returned; None when it did not.
        raised: what it raised, ``BaseException`` too; None when it did not.
    """

    asked: tuple[Effect[Any], ...]
    ended: bool
    returned: T | None = None
    raised: BaseException | None = None

    @property
    def kinds(self) -> tuple[type[Effect[Any]], ...]:
        """The types of the effects, for tests in which their contents are not the point."""
        return tuple(type(effect) for effect in self.asked)


def play(flow: Flow[T], answers: Iterable[object] = ()) -> Trace[T]:
    """Run a flow on prepared answers.

    An answer that is an exception is raised at the effect, as a store or a hook would; ``GeneratorExit``
    stands for a cancelled attempt. When the answers are used up and the flow asks again, it is left there, as
    if the process had died.

    Args:
        flow: a flow that was not started yet.
        answers: the answer to each effect, in order.

    Returns:
        What it asked for and how it ended.

    Raises:
        ValueError: the flow ended before it had asked for every answer.
    """
    asked: list[Effect[Any]] = []
    prepared = iter(answers)
    try:
        asked.append(next(flow))
        for answer in prepared:
            effect = flow.throw(answer) if isinstance(answer, BaseException) else flow.send(answer)
            asked.append(effect)
    except StopIteration as end:
        trace: Trace[T] = Trace(tuple(asked), ended=True, returned=end.value)
    except BaseException as error:  # noqa: BLE001 - how it ended is what the caller wants to know
        trace = Trace(tuple(asked), ended=True, raised=error)
    else:
        return Trace(tuple(asked), ended=False)
    if unused := list(prepared):
        raise ValueError(f"the flow ended with {len(unused)} answers unused, the first of them {unused[0]!r}")
    return trace
