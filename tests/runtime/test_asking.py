"""From a request to an ask."""

from datetime import timedelta
from typing import Any, cast

import pytest

from retrysafe import SHARED, HttpRequest, Policy, PrincipalMissing, RetrySafe
from retrysafe.protocol import effects as fx
from retrysafe.protocol.encoding import decode_request
from retrysafe.protocol.flows import handle
from retrysafe.protocol.model import Ask, Claim, Mode
from retrysafe.runtime.asking import ask_for, call_principal, known_principal, wait_for
from retrysafe.runtime.routes import Guarded
from retrysafe.runtime.runs import Run
from retrysafe.stores.memory import MemoryStore
from tests.runtime.rig import AGAIN, Rig

KEY = "8e03978e-40d5-43e8-bc93-6894a57f9324"


def request(*headers: tuple[str, str]) -> HttpRequest:
    pairs = tuple((name.lower().encode(), value.encode()) for name, value in headers)
    return HttpRequest(method="POST", path=b"/charges", query=b"a=1", headers=pairs, body=b'{"amount": 1}')


def ask(policy: Policy, *headers: tuple[str, str], key: str = KEY, principal: str = "alice", **how: Any) -> Ask:
    guard = RetrySafe(cast(Any, MEMORY), principal=SHARED, scan=None, **how)
    made = ask_for(
        guard.engine(),
        guard,
        request(*headers),
        key=key,
        principal=principal,
        route=Guarded("charge", policy),
        surface=0,
    )
    guard.close()
    return made


MEMORY = MemoryStore()


def test_only_what_may_be_run_again_is_stored_and_never_a_credential_or_a_key() -> None:
    """R9, R13, K8."""
    headers = (
        ("Content-Type", "application/json"),
        ("Authorization", "Bearer s3cr3t"),
        ("Cookie", "session=c00k1e"),
        ("Idempotency-Key", KEY),
        ("X-Other", "not listed"),
    )
    assert ask(Policy(), *headers).request is None
    stored = ask(Policy(mode="again"), *headers).request
    assert stored is not None
    again = decode_request(stored)
    assert (again.method, again.target, again.body, again.operation) == (
        "POST",
        b"/charges?a=1",
        b'{"amount": 1}',
        "charge",
    )
    assert again.headers == ((b"content-type", b"application/json"),)


def test_an_identity_depends_on_namespace_principal_and_key_and_shows_little_of_the_key() -> None:
    """K4, K8."""
    made = [
        ask(Policy()),
        ask(Policy(), key="another"),
        ask(Policy(), principal="bob"),
        ask(Policy(), namespace="another"),
    ]
    assert len({one.identity.digest for one in made}) == 4
    assert ask(Policy()).identity == made[0].identity
    assert len(made[0].identity.key_hint.rstrip("…")) <= len(KEY) / 4
    assert KEY not in repr(made[0])


def test_each_ask_is_a_new_attempt() -> None:
    """D4."""
    assert ask(Policy()).attempt_id != ask(Policy()).attempt_id


def test_what_the_policy_says_goes_along() -> None:
    """C3, R8, S10."""
    policy = Policy(mode="again", lease=timedelta(seconds=7), attempts=3, tombstone=timedelta(days=2))
    made = ask(policy)
    assert (made.mode, made.lease_seconds, made.limits.attempts, made.tombstone_seconds) == (
        Mode.AGAIN,
        7.0,
        3,
        172_800.0,
    )


@pytest.mark.parametrize(
    ("prefer", "policy", "seconds"),
    [
        (None, Policy(), 0.0),
        ("wait=3", Policy(), 3.0),
        ("wait=3600", Policy(), 10.0),
        (None, Policy(on_conflict="wait"), 10.0),
        ("wait=2", Policy(on_conflict="wait"), 2.0),
        ("wait=0", Policy(on_conflict="wait"), 0.0),
        ("wait=60", Policy(wait_limit=timedelta(seconds=25)), 25.0),
    ],
)
def test_a_request_waits_for_as_long_as_it_asks_and_the_policy_allows(
    prefer: str | None, policy: Policy, seconds: float
) -> None:
    """S9."""
    assert wait_for(request(*((("Prefer", prefer),) if prefer else ())), policy) == seconds


def test_nobody_is_a_principal_only_where_that_was_spelled_out() -> None:
    """K5."""
    shared = RetrySafe(cast(Any, MEMORY), principal=SHARED)
    asked = RetrySafe(cast(Any, MEMORY), principal=lambda request: request.header("x-user"))
    assert call_principal(shared, request()) == ""
    assert call_principal(asked, request(("X-User", "alice"))) == "alice"
    assert call_principal(asked, request()) is None
    assert known_principal(shared, "") == ""
    assert known_principal(asked, "alice") == "alice"
    for nobody in (None, ""):
        with pytest.raises(PrincipalMissing):
            known_principal(asked, nobody)


def test_an_operations_code_knows_its_attempt_and_whether_a_client_waits() -> None:
    claim = Claim(b"d" * 16, "operation-1", 7, 2, Mode.AGAIN, "charge", 15.0)
    rig = Rig()
    run = Run(rig.engine, handle(ask(AGAIN), AGAIN), AGAIN, name="charge", stop=lambda: None)
    waited, recovered = run.operation(fx.Execute(claim)), run.operation(fx.Execute(claim), recovering=True)
    assert waited is not None
    assert recovered is not None
    assert (waited.id, waited.attempt, waited.fence, waited.recovering) == ("operation-1", 2, 7, False)
    assert recovered == waited
    assert recovered.recovering
    assert run.operation(fx.Execute(None)) is None
