"""What the code of an operation has in hand: ``op``."""

from retrysafe.runtime.operations.aio import AsyncOperation
from retrysafe.runtime.operations.asked import PARK, Probe, retry
from retrysafe.runtime.operations.operation import Attempt, Operation
from retrysafe.runtime.operations.sync import SyncOperation

__all__ = [
    "PARK",
    "AsyncOperation",
    "Attempt",
    "Operation",
    "Probe",
    "SyncOperation",
    "retry",
]
