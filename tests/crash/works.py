"""Operations that are functions, for workers that are killed, frozen and asked to stop. Child processes run it."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

from retrysafe import SHARED, Call, Event, LoggingSink, Response, RetrySafe, SyncOperation, retry

DIRECTORY = Path(os.environ["RETRYSAFE_WORKS"])
LEASE = timedelta(seconds=float(os.environ.get("RETRYSAFE_WORKS_LEASE", "1")))
STORE = os.environ.get("RETRYSAFE_WORKS_STORE") or f"sqlite:///{DIRECTORY}/store.db"
HONOURED = retry(key_retention=timedelta(days=1))


def _append(name: str, line: str) -> None:
    file = os.open(DIRECTORY / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{line}\n".encode())
    os.close(file)


def _note(event: Event) -> None:
    _append(f"events-{os.getpid()}", f"{type(event).__name__} {event!r}")


logging.basicConfig(level=logging.INFO)
guard = RetrySafe(STORE, principal=SHARED, scan=None, sinks=[_note, LoggingSink()], drain=timedelta(seconds=30))


def work(call: Call, step: str, what: str) -> str:
    """Have an effect that a repeated key does not repeat; tell who called, and wait where the test says so."""
    _append("calls", json.dumps({"what": what, "step": step, "key": call.key, "pid": os.getpid()}))
    gate = DIRECTORY / f"gate-{step}"
    if gate.exists():
        _append("waiting", str(os.getpid()))
        while gate.exists():
            time.sleep(0.01)
    return f"{step} of {what}"


@guard.operation("order", mode="steps", lease=LEASE, max_duration=timedelta(minutes=2))
def order(op: SyncOperation, what: str) -> Response:
    """Three steps."""
    done = [op.step(work, step, what, name=step, unknown=HONOURED) for step in ("reserve", "charge", "ship")]
    return Response(201, done)


@guard.operation("poison", mode="steps", lease=LEASE, attempts=4)
def poison(op: SyncOperation) -> Response:
    """Kill every process that runs it."""
    _append("poisoned", str(os.getpid()))
    os.kill(os.getpid(), signal.SIGSEGV)
    return Response(201)


def main() -> None:
    """Begin an operation, and die where the arguments say."""
    name, key, until = sys.argv[1:]
    if until == "claimed":
        # The claim is durable; nothing else happened.
        order.function = lambda op, what: os.kill(os.getpid(), signal.SIGKILL)
    {"order": lambda: order(key, key=key), "poison": lambda: poison(key=key)}[name]()


if __name__ == "__main__":
    main()
