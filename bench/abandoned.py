"""The operation that workers recover in the benchmark: one step that a repeated key does not repeat."""

from __future__ import annotations

import os
from datetime import timedelta

from retrysafe import SHARED, Call, Response, RetrySafe, SyncOperation, retry

guard = RetrySafe(os.environ["BENCH_STORE"], principal=SHARED, scan=None, sinks=())


def step(call: Call) -> str:
    """Have an effect: a line with the operation and the child key."""
    file = os.open(os.environ["BENCH_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{call.operation_id} {call.key} {call.fence}\n".encode())
    os.close(file)
    return call.key


@guard.operation("work", mode="steps", lease=timedelta(seconds=60))
def work(op: SyncOperation) -> Response:
    """Take one step."""
    return Response(201, op.step(step, unknown=retry(key_retention=timedelta(days=1))))
