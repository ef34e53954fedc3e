"""Between an HTTP surface and the protocol: what the operation did, as a reply; an answer, as the response to send."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from retrysafe.errors import OperationUndone, RetrySafeError
from retrysafe.http.problem import failure_response, problem_response
from retrysafe.http.profiles import IETF, Profile
from retrysafe.http.replay import outcome_of, replay_response, stamped
from retrysafe.protocol import effects as fx
from retrysafe.protocol.model import Final, NoEffect

if TYPE_CHECKING:
    from retrysafe.protocol.model import Claim, Response
    from retrysafe.protocol.policy import Policy


def returned(response: Response, limit: int) -> fx.Returned:
    """Describe a whole response.

    Args:
        response: the operation's own.
        limit: largest body in bytes that is kept (S5).
    """
    return fx.Returned(response, outcome_of(response, keep_body=len(response.body) <= limit))


def began(head: Response) -> fx.Began:
    """Describe a response that begins to leave; only its status and headers are known."""
    return fx.Began(outcome_of(head, keep_body=False))


def raised(error: Exception, limit: int, profile: Profile) -> fx.Raised:
    """Describe an exception of the operation.

    Args:
        error: what it raised.
        limit: largest body in bytes that is kept (S5).
        profile: how the problem looks that a client gets for it.
    """
    declared = error.response if isinstance(error, Final | NoEffect) else None
    response = failure_response(profile) if declared is None else declared
    return fx.Raised(error, returned(response, limit))


def undone_reply(claim: Claim, policy: Policy, profile: Profile = IETF) -> fx.Returned:
    """Make the outcome of an undone operation that did not answer by itself: the policy's, or 409 (§E)."""
    response = policy.undone or problem_response(OperationUndone(claim.operation_id), profile)
    return returned(response, policy.response_limit)


def is_own(answer: object, reply: fx.Reply) -> bool:
    """Tell whether the protocol lets the operation's own response leave just as it is."""
    match answer:
        case fx.Fresh(response, stored=True, protected=True):
            return isinstance(reply, fx.Returned) and response is reply.response
        case _:
            return False


def response_to(answer: fx.Answer | RetrySafeError, profile: Profile) -> Response | None:
    """Return the response to send, or None when everything has left already.

    Raises:
        Exception: the operation's own, which the protocol gives back to the framework.
    """
    match answer:
        case RetrySafeError():
            return problem_response(answer, profile)
        case fx.Fresh(response, stored, protected):
            return stamped(response, stored=stored, protected=protected)
        case fx.Replayed(_, response):
            return replay_response(response)
        case fx.Streamed():
            return None
        case fx.Reraise(error):
            raise error
        case _:
            assert_never(answer)
