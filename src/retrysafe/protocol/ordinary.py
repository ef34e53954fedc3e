"""The course that nearly every request takes, without a flow: claimed, returned, recorded; or finished, replayed.

What it decides is what :func:`~retrysafe.protocol.flows.handle` decides, in a third of the time. It decides nothing
else: whoever meets anything out of the ordinary takes the flow from there. That needs no second truth, because a flow
knows only what it was told: one that is told the same afterwards stands where it would have stood.
"""

from __future__ import annotations

from retrysafe.protocol import effects as fx
from retrysafe.protocol.encoding import decode_outcome
from retrysafe.protocol.flows import handle
from retrysafe.protocol.model import Ask, Mode, Response
from retrysafe.protocol.policy import Policy
from retrysafe.protocol.verdicts import Claimed, Finished, Verdict


class Ordinary:
    """One request, as long as nothing out of the ordinary happens."""

    __slots__ = ("_claimed", "_policy", "_wait_seconds", "ask")

    def __init__(self, ask: Ask, policy: Policy, wait_seconds: float = 0.0) -> None:
        """Take what :func:`~retrysafe.protocol.flows.handle` takes."""
        self.ask = ask
        self._policy = policy
        self._wait_seconds = wait_seconds
        self._claimed: Claimed | None = None

    def asks(self, reply: fx.Reply | fx.Ended | None) -> fx.Claim | fx.Record | None:
        """Return what is to be asked of the store; None where this course is left.

        Args:
            reply: what the operation did; None before it was claimed.
        """
        if reply is None:
            return fx.Claim(self.ask)
        if not isinstance(reply, fx.Returned) or self._claimed is None:
            return None
        claim = self._claimed.claim
        return None if self._policy.releases(claim.mode, reply.outcome.status) else fx.Record(claim, reply.outcome)

    def executes(self, verdict: Verdict) -> fx.Execute | None:
        """Begin an operation of one piece that was claimed; None for anything else."""
        if not isinstance(verdict, Claimed):
            return None
        claim = verdict.claim
        if claim.undoing or (claim.mode is not Mode.ONCE and claim.mode is not Mode.AGAIN):
            return None
        self._claimed = verdict
        return fx.Execute(claim)

    def replays(self, verdict: Verdict) -> fx.Replayed | None:
        """Replay an outcome that was kept whole, where nobody has to be asked whether it may be seen.

        Raises:
            RecordUnreadable: it is damaged, or of a newer version (S11).
        """
        if not isinstance(verdict, Finished) or verdict.checkpoint.outcome is None:
            return None
        outcome = decode_outcome(verdict.checkpoint.outcome)
        if outcome.body is None:
            return None
        response = Response.raw(outcome.status, outcome.headers, outcome.body)
        return fx.Replayed(verdict.checkpoint.operation_id, response)

    def flow(self, told: fx.Reply | fx.Ended | None = None) -> fx.Flow[fx.Answer]:
        """Return the flow where this request stands: at the effect whose answer is next.

        Args:
            told: what the operation did, if that effect is the one that follows it.
        """
        flow = handle(self.ask, self._policy, self._wait_seconds)
        flow.send(None)
        if self._claimed is not None:
            flow.send(self._claimed)
        if told is not None:
            flow.send(told)
        return flow
