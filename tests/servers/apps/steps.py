"""What a handler under test does, step by step.

The steps come in a header, which no fingerprint covers: a retry may ask for something else, and if its steps are
carried out at all, the ledger tells.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from retrysafe import Final, NoEffect, Response

HEADER = "X-Steps"
Step = list[Any]
Pairs = Sequence[tuple[str, str]]

DIRECTORY = Path(os.environ.get("RETRYSAFE_TEST_DIRECTORY", "."))


def effect(label: str) -> Step:
    """Leave a mark that survives the process."""
    return ["effect", label]


def respond(status: int = 201, body: str = "made", headers: Pairs = ()) -> Step:
    """Send a whole response; later steps are background work."""
    return ["respond", status, list(headers), body]


def start(status: int = 200, headers: Pairs = ()) -> Step:
    """Begin a response without a length."""
    return ["start", status, list(headers)]


def chunk(text: str) -> Step:
    """Send a part of the body."""
    return ["chunk", text]


def fill(size: int) -> Step:
    """Send a part of the body that has a size."""
    return ["fill", size]


def end() -> Step:
    """End the response; later steps are background work."""
    return ["end"]


def echo() -> Step:
    """Answer with what arrived."""
    return ["echo"]


def fail(kind: str = "error") -> Step:
    """Raise: ``error``, ``no-effect``, ``no-effect-answer`` or ``final``."""
    return ["raise", kind]


def encode(steps: Iterable[Step]) -> str:
    """Write steps as the value of a header."""
    return json.dumps(list(steps), separators=(",", ":"))


def decode(value: str | None) -> list[Step]:
    """Read steps from the value of a header."""
    return list(json.loads(value)) if value else [respond(200, "no steps")]


def mark(label: str) -> None:
    """Append to the ledger, durably."""
    ledger = os.open(DIRECTORY / "ledger", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(ledger, f"{label}\n".encode())
        os.fsync(ledger)
    finally:
        os.close(ledger)


def a_file() -> Path:
    """Return a file to send, about 180 KB."""
    file = DIRECTORY / "file.txt"
    if not file.exists():
        # Complete from the first moment that it can be seen.
        fresh = DIRECTORY / f"file-{os.getpid()}-{threading.get_ident()}"
        fresh.write_bytes(b"".join(b"%06d line of a file\n" % number for number in range(9_000)))
        fresh.replace(file)
    return file


def pass_gate(path: str) -> None:
    """Wait at a gate, blocking."""
    with socket.socket(socket.AF_UNIX) as gate:
        gate.connect(path)
        gate.recv(16)


def raised(kind: str) -> Exception:
    """Return the exception for a kind."""
    match kind:
        case "no-effect":
            return NoEffect()
        case "no-effect-answer":
            return NoEffect(Response(402, {"paid": False}))
        case "final":
            return Final(Response(402, {"paid": False}, {"X-Final": "yes"}))
        case _:
            return RuntimeError("the handler failed with secret-detail")
