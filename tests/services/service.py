"""Real servers as plain processes on loopback: the tests start, kill, freeze and stop them, and leave none behind."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest

PATIENCE_SECONDS = 60.0
"""How long a server may take to answer for the first time; nothing here depends on being faster."""

_PR_SET_PDEATHSIG = 1


def free_port() -> int:
    """Return a port of loopback that is free right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def missing(what: str, install: str) -> None:
    """Skip on a laptop, with the line that helps; fail in CI, where nothing may be missing."""
    reason = f"{what} is not installed: {install}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


class Service:
    """A server that runs.

    Attributes:
        url: where clients find it.
        port: on 127.0.0.1.
        folder: its data; removed at the end.
    """

    def __init__(
        self,
        name: str,
        *,
        command: Callable[[Service], Sequence[str]],
        url: Callable[[Service], str],
        answers: Callable[[Service], bool],
        prepare: Callable[[Service], None] | None = None,
        environment: Mapping[str, str] | None = None,
        user: int | None = None,
    ) -> None:
        self.name = name
        # Short, because addresses of UNIX sockets are.
        self.folder = Path(tempfile.mkdtemp(prefix=f"rs-{name[:3]}-"))
        self.port = free_port()
        self._command, self._url, self._answers = command, url, answers
        self._environment = {**os.environ, **(environment or {})}
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None
        if user is not None:
            os.chown(self.folder, user, -1)
        if prepare is not None:
            prepare(self)

    @property
    def url(self) -> str:
        return self._url(self)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start it, with the data that it has, and return when it answers."""
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            list(self._command(self)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=self._environment,
            cwd=self.folder,
            user=self._user,
            process_group=0,
            preexec_fn=_die_with_the_tests,  # noqa: PLW1509 - one system call, between fork and exec
        )
        log.close()
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                self.kill()
                tail = (self.folder / "log").read_text("utf-8", "replace")[-2000:]
                raise AssertionError(f"{self.name} does not start:\n{tail}")
            time.sleep(0.02)

    def run(self, *command: str) -> None:
        """Run a helper of the server to its end, as the server's user."""
        subprocess.run(
            command, check=True, env=self._environment, cwd=self.folder, user=self._user, stdout=subprocess.DEVNULL
        )

    def kill(self) -> None:
        """Kill -9, and wait until it is gone."""
        self._signal(signal.SIGKILL)
        self._wait()

    def freeze(self) -> None:
        """Stop it in the middle of whatever it does."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        """Kill it, and start it with its data on its port."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """Stop it in order."""
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            self._process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            self.kill()

    def _is_ready(self) -> bool:
        try:
            return self._answers(self)
        except (OSError, AssertionError):
            return False

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _wait(self) -> None:
        if self._process is not None:
            self._process.wait(PATIENCE_SECONDS)


def _die_with_the_tests() -> None:
    # Even when they are killed themselves. After the change of user, which would undo it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
