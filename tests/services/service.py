"""Real servers as plain processes on loopback: the tests start, kill, freeze and stop them, and leave none behind."""

from __future__ import annotations

import atexit
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NoReturn, Self

import pytest

from tests.services import processes

PATIENCE_SECONDS = 60.0
"""How long a server may take to answer for the first time, or to stop; nothing here depends on being faster."""

# Below the ports that the kernel gives to clients: one of those would sit on a server's port between its two lives.
PORTS = range(29_000, 32_700)
_LOG_BYTES = 4000
_LONGEST_FOLDER = 40


class Port:
    """A port of loopback that nobody listens at, and that no other test process chooses while this object lives."""

    def __init__(self) -> None:
        for number in random.Random().sample(PORTS, len(PORTS)):
            # The kernel forgets such a name with its owner, so that a killed test run keeps no port to itself.
            claim = socket.socket(socket.AF_UNIX)
            try:
                claim.bind(f"\0retrysafe-tests-port-{number}")
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", number))
            except OSError:
                claim.close()
                continue
            self.number, self._claim = number, claim
            return
        pytest.fail("every port is taken")

    def release(self) -> None:
        """Let others have it."""
        self._claim.close()


def missing(what: str, install: str) -> NoReturn:
    """Skip on a laptop, with the line that helps; fail in CI, where nothing may be missing."""
    reason = f"{what} is not installed: {install}"
    if os.environ.get("CI", "").lower() in {"", "0", "false"}:
        pytest.skip(reason)
    pytest.fail(reason)


def new_folder(name: str) -> Path:
    """Make a folder whose path is short, because addresses of UNIX sockets are, and open to every user."""
    base = Path(tempfile.gettempdir())
    if len(str(base)) > _LONGEST_FOLDER or not is_open_to_all(base):
        base = Path("/tmp")  # noqa: S108 - mkdtemp makes a private folder in it
    return Path(tempfile.mkdtemp(prefix=f"rs-{name[:3]}-", dir=base))


def is_open_to_all(path: Path) -> bool:
    """Tell whether an unprivileged user may enter a folder, or run a program."""
    return all(each.stat().st_mode & 0o001 for each in (path, *path.parents))


def says(port: int, asked: bytes, answer: bytes) -> bool:
    """Tell how a server answers to what it is asked first; one that does not listen is an OSError."""
    with socket.create_connection(("127.0.0.1", port), 2) as connection:
        connection.settimeout(5)
        connection.sendall(asked)
        return connection.recv(64).startswith(answer)


@cache
def _keeper() -> processes.Keeper:
    keeper = processes.Keeper()
    atexit.register(keeper.close)
    return keeper


class Service:
    """A server that runs.

    Attributes:
        url: where clients find it.
        port: on 127.0.0.1; the same through all restarts.
        folder: its data and its log; removed at the end.
    """

    def __init__(
        self,
        name: str,
        *,
        command: Callable[[Service], Sequence[str]],
        url: Callable[[Service], str],
        answers: Callable[[Service], bool],
        prepare: Callable[[Service], None] | None = None,
        environment: Callable[[Service], Mapping[str, str]] | None = None,
        user: int | None = None,
        ask_to_stop: signal.Signals = signal.SIGTERM,
        further_ports: int = 0,
    ) -> None:
        """Say how a server is run; nothing is started.

        Args:
            name: of the program, for people.
            command: starts it in the foreground.
            url: where clients find it.
            answers: whether it does; an OSError is a no.
            prepare: makes its data, before the first start.
            environment: what its own environment adds to ours.
            user: whom it runs as, with the group of the same number, if not as we do.
            ask_to_stop: the signal that ends it in order.
            further_ports: how many it needs besides the one for clients.
        """
        self.name = name
        self.folder = new_folder(name)
        self._claims = [Port() for _ in range(1 + further_ports)]
        self._command, self._url, self._answers = command, url, answers
        self._prepare, self._environment = prepare, environment
        self._user, self._ask_to_stop = user, ask_to_stop
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self._claims[0].number

    @property
    def further_ports(self) -> list[int]:
        return [claim.number for claim in self._claims[1:]]

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return self._url(self)

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} does not run"
        return self._process.pid

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def start(self) -> None:
        """Start it, with the data that it has, and return when it answers."""
        if self._prepare is not None:
            if self._user is not None:
                os.chown(self.folder, self._user, -1)
            self._prepare(self)
            self._prepare = None
        self.launch()
        self.until_ready()

    def launch(self) -> None:
        """Start it without waiting for it."""
        assert self._process is None, f"{self.name} runs already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                list(self._command(self)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._whole_environment(),
                cwd=self.folder,
                # A session of its own, by which its processes are found, and which Ctrl-C does not reach.
                start_new_session=True,
                user=self._user,
                group=self._user,
                extra_groups=self._no_groups(),
            )
        _keeper().watch(self._process.pid, str(self.folder))

    def until_ready(self) -> None:
        """Return when it answers.

        Raises:
            AssertionError: it ended, or did not answer for a minute; with the end of its log.
        """
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while not self._is_ready():
            ended = self.has_ended
            if ended or time.monotonic() > give_up_at:
                self.kill()
                what = "ended at once" if ended else f"does not answer after {PATIENCE_SECONDS:.0f} s"
                raise AssertionError(f"{self.name} {what}; its log ends:\n{self._end_of_log()}")
            time.sleep(0.01)

    def run(self, *command: str) -> None:
        """Run a tool of the server to its end, as the server's user."""
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            env=self._whole_environment(),
            cwd=self.folder,
            user=self._user,
            group=self._user,
            extra_groups=self._no_groups(),
        )
        assert done.returncode == 0, f"{command[0]} failed:\n{done.stdout}{done.stderr}"

    @property
    def has_ended(self) -> bool:
        """Whether its first process has, or was never started."""
        if self._process is None:
            return True
        # Not reaped by looking: until then nobody else gets its number, and its children are found by it.
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def kill(self) -> None:
        """Kill -9 all its processes, and return when they are gone. Does nothing to one that does not run."""
        if self._process is not None:
            processes.kill(self._process.pid)
            _keeper().forget(self._process.pid)
            self._process.wait(PATIENCE_SECONDS)
            self._process = None

    def freeze(self) -> None:
        """Stop all its processes in the middle of whatever they do."""
        processes.freeze(self.pid)

    def thaw(self) -> None:
        """Let them go on."""
        processes.thaw(self.pid)

    def restart(self) -> None:
        """Kill it if it runs, and start it with its data on its port."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """Stop it in order, and return when it has ended."""
        if self._process is None:
            return
        self.thaw()
        self._process.send_signal(self._ask_to_stop)
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while not self.has_ended and time.monotonic() < give_up_at:
            time.sleep(0.01)
        # What it left behind, or all of it.
        self.kill()

    def remove(self) -> None:
        """Kill it and remove its data. Safe to call again."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        for claim in self._claims:
            claim.release()

    def _is_ready(self) -> bool:
        try:
            return self._answers(self)
        except OSError:
            return False

    def _whole_environment(self) -> dict[str, str]:
        return {**os.environ, **(self._environment(self) if self._environment else {})}

    def _no_groups(self) -> list[int] | None:
        return None if self._user is None else []

    def _end_of_log(self) -> str:
        return self.log.read_bytes()[-_LOG_BYTES:].decode("utf-8", "replace")
