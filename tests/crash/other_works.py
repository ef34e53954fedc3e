"""A release that does not know the operations of ``works.py``. Runs in child processes only."""

from __future__ import annotations

import os

from retrysafe import SHARED, Response, RetrySafe, SyncOperation

guard = RetrySafe(os.environ["RETRYSAFE_WORKS_STORE"], principal=SHARED, scan=None, sinks=())


@guard.operation("another", mode="steps")
def another(op: SyncOperation) -> Response:
    """Do nothing that matters here."""
    return Response(201)
