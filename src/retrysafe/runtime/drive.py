"""Drive a flow: perform its effects until it needs the surface, or ends.

Exceptions of a performer are thrown into the flow, which may know better. A ``BaseException`` beyond ``Exception``
(cancellation, interpreter exit) closes the flow and performs nothing more: it counts as a crash (C7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from retrysafe.protocol.effects import SurfaceEffect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from retrysafe.protocol.effects import AnyEffect, Execute, Flow, Forward

T = TypeVar("T")


def drive(
    flow: Flow[T], perform: Callable[[AnyEffect], Any], reply: object = None, *, raised: Exception | None = None
) -> Execute | Forward | T:
    """Run ``flow`` from ``reply`` on; return the effect at which the surface must act, or what the flow returned.

    Args:
        flow: what is to be done.
        perform: performs an effect, and returns its answer.
        reply: answer to the effect at which the flow stands.
        raised: what its performer raised, in place of an answer.
    """
    try:
        effect = flow.send(reply) if raised is None else flow.throw(raised)
        while not isinstance(effect, SurfaceEffect):
            try:
                answer = perform(effect)
            except Exception as error:  # noqa: BLE001 - the flow decides what an error of a performer means
                effect = flow.throw(error)
            except BaseException:
                flow.close()
                raise
            else:
                effect = flow.send(answer)
    except StopIteration as end:
        value: T = end.value
        return value
    else:
        return effect


async def adrive(
    flow: Flow[T],
    perform: Callable[[AnyEffect], Awaitable[Any]],
    reply: object = None,
    *,
    raised: Exception | None = None,
) -> Execute | Forward | T:
    """Run ``flow`` like :func:`drive`, awaiting each effect."""
    try:
        effect = flow.send(reply) if raised is None else flow.throw(raised)
        while not isinstance(effect, SurfaceEffect):
            try:
                answer = await perform(effect)
            except Exception as error:  # noqa: BLE001 - the flow decides what an error of a performer means
                effect = flow.throw(error)
            except BaseException:
                flow.close()
                raise
            else:
                effect = flow.send(answer)
    except StopIteration as end:
        value: T = end.value
        return value
    else:
        return effect
