"""retrysafe makes writes safe to repeat.

A client sends an ``Idempotency-Key`` (or ``Tracking-Id``) with a write and keeps it for every retry. retrysafe makes
an atomic checkpoint for it, runs the operation once, stores its outcome, and gives every retry the same answer, even
when the server was killed half-way.
"""

from retrysafe.errors import (
    AttemptSuperseded,
    ConfigurationError,
    InProgress,
    KeyExpired,
    KeyMalformed,
    KeyMissing,
    KeyReused,
    NotReplayable,
    OutcomeUnknown,
    PrincipalMissing,
    RecordUnreadable,
    ReplayRefused,
    RequestRefused,
    RequestTooLarge,
    RetrySafeError,
    SchemaMismatch,
    StoreCorrupt,
    StoreError,
    StoreUnavailable,
)
from retrysafe.http.key import KeyRules
from retrysafe.http.request import HttpRequest
from retrysafe.protocol.fingerprint import FingerprintRules
from retrysafe.protocol.model import Checkpoint, Final, Mode, NoEffect, Response
from retrysafe.protocol.policy import Policy
from retrysafe.protocol.states import State
from retrysafe.runtime.calls import Call
from retrysafe.runtime.context import current_operation
from retrysafe.runtime.events import Event, LoggingSink
from retrysafe.runtime.guard import SHARED, RetrySafe
from retrysafe.runtime.operations import (
    AsyncOperation,
    Operation,
    Probe,
    SyncOperation,
    retry,
)

__all__ = [
    "SHARED",
    "AsyncOperation",
    "AttemptSuperseded",
    "Call",
    "Checkpoint",
    "ConfigurationError",
    "Event",
    "Final",
    "FingerprintRules",
    "HttpRequest",
    "InProgress",
    "KeyExpired",
    "KeyMalformed",
    "KeyMissing",
    "KeyReused",
    "KeyRules",
    "LoggingSink",
    "Mode",
    "NoEffect",
    "NotReplayable",
    "Operation",
    "OutcomeUnknown",
    "Policy",
    "PrincipalMissing",
    "Probe",
    "RecordUnreadable",
    "ReplayRefused",
    "RequestRefused",
    "RequestTooLarge",
    "Response",
    "RetrySafe",
    "RetrySafeError",
    "SchemaMismatch",
    "State",
    "StoreCorrupt",
    "StoreError",
    "StoreUnavailable",
    "SyncOperation",
    "current_operation",
    "retry",
]
