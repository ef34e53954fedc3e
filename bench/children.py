"""Child processes that answer one line of JSON with another, and end when their standard input does."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent
_END_SECONDS = 10.0
_START_SECONDS = 60.0


class ChildFailed(RuntimeError):
    """A child ended, was silent for too long, or said something else than JSON."""


class Child:
    """A module of this package, run as a process of its own.

    Args:
        module: its name.
        arguments: what it is told.
        python: in which environment.
        log: where it complains, if not where we do.

    Attributes:
        hello: the first line it said, which tells that it is ready.
    """

    def __init__(self, module: str, *arguments: str, python: str = sys.executable, log: Path | None = None) -> None:
        command = [python, "-m", module, *arguments]
        self._name = " ".join((module, *arguments))
        with log.open("ab") if log else nullcontext() as errors:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, bufsize=0
            )
        self._rest = b""
        self.hello: dict[str, Any] = {}

    def wait_until_ready(self) -> None:
        """Wait for the first line. Children may be started side by side before."""
        self.hello = self._listen(_START_SECONDS)

    def ask(self, question: dict[str, Any], *, seconds: float = 10.0) -> dict[str, Any]:
        """Say something and return the answer, which must come within ``seconds``."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
        except BrokenPipeError as error:
            raise ChildFailed(f"{self._name} ended with {self._process.poll()}") from error
        return self._listen(seconds)

    def end(self) -> None:
        """Close its standard input, which asks it to end; kill it if it does not."""
        process = self._process
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def _listen(self, seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        handle = self._process.stdout.fileno()
        give_up_at = time.monotonic() + seconds
        while b"\n" not in self._rest:
            ready, _, _ = select.select([handle], [], [], max(0.0, give_up_at - time.monotonic()))
            if not ready:
                raise ChildFailed(f"{self._name} said nothing for {seconds:g} s")
            said = os.read(handle, 65_536)
            if not said:
                raise ChildFailed(f"{self._name} ended with {self._process.wait(_END_SECONDS)}")
            self._rest += said
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            answer: dict[str, Any] = json.loads(line)
        except json.JSONDecodeError as error:
            raise ChildFailed(f"{self._name} said {line!r}") from error
        return answer


def say(answer: dict[str, Any]) -> None:
    """Say one line to the parent; for children."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
