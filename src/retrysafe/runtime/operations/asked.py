"""Steps as the operation's code asks for them: what may be declared, and what a memo gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from retrysafe.protocol import effects as fx
from retrysafe.protocol import steps
from retrysafe.protocol.model import NoEffect, Response
from retrysafe.protocol.steps import Memo, Step, StepKind, StepStatus
from retrysafe.runtime.calls import Call, undo_name
from retrysafe.runtime.values import decode_result, decode_value, encode_value

if TYPE_CHECKING:
    from retrysafe.protocol.model import Claim
    from retrysafe.protocol.policy import Policy

PARK = steps.Park()
"""``unknown=PARK``, the default: nobody calls again by a guess; the operation is parked (R6)."""


def retry(*, key_retention: timedelta) -> steps.Retry:
    """``unknown=retry(...)``: call again with the same child key, which the service honours (R6).

    Args:
        key_retention: how long that service remembers a key. After that the operation is parked instead.
    """
    return steps.Retry(key_retention.total_seconds())


@dataclass(frozen=True, slots=True)
class Probe:
    """``unknown=Probe(fn)``: ask whether the step happened (R6).

    Attributes:
        function: called like the step, with its ``Call`` and arguments. Returns what the step gave if it happened,
            ``Probe.NOT_HAPPENED``, or ``Probe.UNKNOWN`` when it could not find out.
    """

    NOT_HAPPENED: ClassVar[Any] = object()
    UNKNOWN: ClassVar[Any] = object()

    function: Callable[..., Any]


Unknown = steps.Park | steps.Retry | Probe


@dataclass(frozen=True, slots=True)
class Asked:
    """A step as the operation's code asks for it: what the flow needs, and what only the runtime has.

    Attributes:
        step: what the flow needs.
        function: the step's.
        probe: finds out whether it happened, or None.
        args: what both are called with.
    """

    step: Step
    function: Callable[..., Any]
    probe: Callable[..., Any] | None
    args: tuple[Any, ...]

    def call(self, claim: Claim) -> Call:
        """Make the call; its time begins to run."""
        return Call(claim, self.step.place, self.step.timeout_seconds)


def ask_step(
    policy: Policy,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    *,
    kind: StepKind,
    undo: Callable[..., Any] | None,
    unknown: Unknown,
    name: str | None,
    index: int,
    timeout: timedelta | None,
) -> Asked:
    """Check and describe a step.

    Raises:
        ValueError: it has no name that another attempt finds, or an undo that another process does not find.
    """
    called = name or getattr(function, "__name__", "")
    if not called or called.startswith(("<", steps.UNDO_PREFIX)) or called == steps.PIVOT:
        raise ValueError(f"step {called!r} needs a name of its own: pass name= (R4)")
    step = Step(
        name=called,
        index=index,
        kind=kind,
        unknown=steps.Ask() if isinstance(unknown, Probe) else unknown,
        timeout_seconds=policy.step_timeout_seconds if timeout is None else timeout.total_seconds(),
        undo=undo_name(undo),
        arguments=None if undo is None else encode_value(args),
    )
    return Asked(step, function, unknown.function if isinstance(unknown, Probe) else None, args)


def result_of(asked: Asked, memo: Memo) -> Any:  # noqa: ANN401 - as the step's annotation says
    """Return what a step gave, or raise again what refused it."""
    if memo.status is StepStatus.REFUSED:
        if memo.value is None:
            raise NoEffect
        status, headers, body = decode_value(memo.value, tuple[int, tuple[tuple[bytes, bytes], ...], bytes])
        raise NoEffect(Response.raw(status, headers, body))
    return decode_result(asked.function, memo.value)


def find_out(answer: object) -> fx.Gave | fx.NotHappened | fx.NotKnown:
    """Say what a probe found."""
    if answer is Probe.NOT_HAPPENED:
        return fx.NotHappened()
    return fx.NotKnown() if answer is Probe.UNKNOWN else fx.Gave(encode_value(answer))
