"""Ready-made nouns for tests of the protocol: every field has a value, and a test names those that matter to it."""

from typing import Any

from msgspec.structs import replace

from retrysafe.protocol.encoding import encode_outcome
from retrysafe.protocol.fingerprint import Fingerprint, FingerprintRules, Secret, fingerprint
from retrysafe.protocol.model import Ask, Checkpoint, Claim, Identity, Limits, Mode, Outcome
from retrysafe.protocol.states import State

SECRET = Secret.of(b"a secret of 32 bytes for testing")
OTHER_SECRET = Secret.of(b"another secret of 32 bytes, also")
NOW = 1_000.0


def asked(
    body: bytes = b"",
    media_type: str = "application/json",
    *,
    rules: FingerprintRules | None = None,
    secrets: tuple[Secret, ...] = (SECRET,),
    **changes: Any,
) -> Fingerprint:
    """Fingerprint of a POST to /charges, except for what is named."""
    request: dict[str, Any] = {"method": "POST", "path": b"/charges", "query": b"", "headers": ()}
    return fingerprint(
        media_type=media_type, body=body, rules=rules or FingerprintRules(), secrets=secrets, **(request | changes)
    )


def same(one: bytes, other: bytes, media_type: str = "application/json", **changes: Any) -> bool:
    """Tell whether two bodies are one request; both ways, because which came first must not matter."""
    first, second = asked(one, media_type, **changes), asked(other, media_type, **changes)
    forth, back = second.matches(first.stored), first.matches(second.stored)
    assert forth is back
    return forth


ASK = Ask(
    identity=Identity(digest=b"d" * 16, namespace="shop", principal="user-1", key_hint="8e0397…"),
    fingerprint=asked(b'{"amount": 1}'),
    attempt_id="attempt-2",
    name="POST /charges",
    mode=Mode.ONCE,
    lease_seconds=15.0,
    tombstone_seconds=2_592_000.0,
    limits=Limits(3),
)

OUTCOME = Outcome(201, ((b"location", b"/charges/1"), (b"content-type", b"text/plain")), b"made")

CHECKPOINT = Checkpoint(
    digest=b"d" * 16,
    operation_id="operation-1",
    name="POST /charges",
    mode=Mode.ONCE,
    state=State.RUNNING,
    namespace="shop",
    principal="user-1",
    key_hint="8e0397…",
    fingerprint=ASK.fingerprint.stored,
    fence=7,
    attempt=2,
    deaths=0,
    attempt_id="attempt-1",
    created_at=NOW - 5,
    lease_until=NOW + 10,
    due_at=NOW + 12,
    finished_at=None,
    outcome_until=None,
    tombstone_until=NOW + 2_592_000,
    outcome=None,
    request=None,
    reason=None,
    version=1,
    undoing=False,
    now=NOW,
)

DONE = replace(
    CHECKPOINT,
    state=State.DONE,
    finished_at=NOW - 1,
    outcome_until=NOW + 86_400,
    outcome=encode_outcome(OUTCOME),
)


def claim(mode: Mode = Mode.ONCE) -> Claim:
    """The right to execute the operation of ``CHECKPOINT``."""
    return replace(CHECKPOINT, mode=mode).claim(15.0)
