"""Real servers as child processes that are killed, frozen and asked to stop; and what is left of them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from retrysafe.protocol.model import Checkpoint
from retrysafe.stores.base import Query
from retrysafe.stores.urls import open_store
from tests.crash import effects
from tests.crash.settings import ENVIRONMENT, Settings
from tests.servers.wire import Connection, Reply, Truncated, request

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 30.0
"""How long anything may take before it counts as hung; nothing here depends on being faster."""
SCAN_SECONDS = 0.05
TOKEN = "Bearer alice-s3cr3t"
COOKIE = "session=c00k1e"
KEY = "8e03978e-40d5-43e8-bc93-6894a57f9324"
BODY = b'{"amount": "9000-of-them"}'

UVICORN = ("uvicorn", "--factory", "--fd", "{fd}", "--loop", "asyncio", "--http", "h11", "tests.crash.shop:asgi")
HYPERCORN = ("hypercorn", "--bind", "fd://{fd}", "--graceful-timeout", "1", "tests.crash.shop:asgi()")
GUNICORN = (
    "gunicorn",
    "--bind",
    "fd://{fd}",
    "--no-control-socket",
    "--graceful-timeout",
    "20",
    "--worker-class",
    "{worker}",
    "tests.crash.shop:wsgi()",
)
WSGIREF = ("tests.crash.wsgiref_main", "{fd}")


def gunicorn(worker: str = "sync", *more: str) -> tuple[str, ...]:
    """The command of a gunicorn with workers of a kind."""
    *options, app = (part.replace("{worker}", worker) for part in GUNICORN)
    return (*options, *more, app)


def until(condition: Callable[[], T | None], what: str, *, seconds: float = PATIENCE_SECONDS) -> T:
    """Look until something is so, and return it."""
    give_up_at = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < give_up_at, f"still not so after {seconds} s: {what}"
        time.sleep(0.005)
    return found


@dataclass
class Server:
    """A process that serves the shop."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def post(self, path: str = "/charges", key: str = KEY, *, body: bytes = BODY, prefer: str | None = None) -> Reply:
        """Send a write.

        Raises:
            Truncated, OSError: the server died.
        """
        headers = [
            ("Idempotency-Key", key),
            ("Authorization", TOKEN),
            ("Cookie", COOKIE),
            ("Content-Type", "application/json"),
            ("Connection", "close"),
            *((("Prefer", prefer),) if prefer else ()),
        ]
        with Connection(self.port) as connection:
            connection.socket.settimeout(PATIENCE_SECONDS)
            connection.send(request("POST", path, headers, body))
            return connection.reply()

    def post_until_settled(self, path: str = "/charges", key: str = KEY) -> Reply:
        """Retry as a client does, until the answer is not that it should come back."""
        return until(lambda: _settled(self.post(path, key)), "the retry is settled")

    def send(self, number: signal.Signals) -> None:
        if number is signal.SIGSTOP:
            freeze(self.process.pid)
        else:
            os.kill(self.process.pid, number)

    def wait(self) -> int:
        """Return the exit code once the process has ended."""
        return self.process.wait(PATIENCE_SECONDS)

    def end(self) -> None:
        """End it, whatever state it is in."""
        if self.process.poll() is None:
            self.process.kill()
        # Workers that outlived their master; the group is ours, because it was started as a session of its own.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE_SECONDS)


def _settled(reply: Reply) -> Reply | None:
    return None if reply.code in {"in-progress", "attempt-superseded"} else reply


def freeze(pid: int) -> None:
    """Stop a child of ours where it is, and wait until all of it stands still; the signal alone is only on its way."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


class Town:
    """A directory with one store and one ledger, and the servers that share them."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.settings = Settings(str(directory), **settings)
        self._stack = ExitStack()
        self._store = open_store(self.settings.store_url)
        if self.settings.mode == "transaction" or self.settings.step == "local":
            self._store.open()
            effects.prepare(self.settings.store_url)
        self._stack.callback(self._store.close)
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, command: Sequence[str] = UVICORN, **changes: Any) -> Server:
        """Start a server; whoever connects is served as soon as it is up."""
        self._count += 1
        log = self.directory / f"log-{self._count}"
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            ENVIRONMENT: replace(self.settings, **changes).write(),
        }
        with socket.socket() as listener, log.open("wb") as output:
            listener.bind(("127.0.0.1", 0))
            listener.listen(128)
            fd = listener.fileno()
            process = subprocess.Popen(
                [sys.executable, "-m", *(part.replace("{fd}", str(fd)) for part in command)],
                cwd=ROOT,
                env=environment,
                pass_fds=[fd],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            server = Server(process, listener.getsockname()[1], log)
        self._stack.callback(server.end)
        return server

    def scanning(self, command: Sequence[str] = UVICORN, **changes: Any) -> Server:
        """Start a server that looks for abandoned operations."""
        return self.start(command, scan_seconds=SCAN_SECONDS, **changes)

    def open_gate(self) -> None:
        """Let everybody go on who waits."""
        (self.directory / "gate").touch()

    @property
    def ledger(self) -> list[dict[str, Any]]:
        """Every effect, in order."""
        try:
            return [json.loads(line) for line in (self.directory / "ledger").read_text().splitlines()]
        except FileNotFoundError:
            return []

    @property
    def effects(self) -> int:
        """How often the effect happened: lines of the ledger, or rows that are committed."""
        if self.settings.mode == "transaction" or self.settings.step == "local":
            return effects.count(self.settings.store_url)
        return len(self.ledger)

    def forget_ledger(self) -> None:
        """Begin with no effects and no events."""
        for path in (self.directory / "ledger", *self.directory.glob("events-*")):
            path.unlink(missing_ok=True)

    def events(self, server: Server | None = None) -> list[str]:
        """The kinds of events that a process told of, in order; or all of them."""
        files = sorted(self.directory.glob(f"events-{server.pid}" if server else "events-*"))
        return [line.partition(" ")[0] for file in files for line in file.read_text().splitlines()]

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """What is stored, newest first; without outcomes and requests."""
        return list(self._store.query(partial(self._store.verbs.listing, Query(limit=1000))))

    @property
    def checkpoint(self) -> Checkpoint:
        """The only checkpoint, whole."""
        (listed,) = self.checkpoints
        met = self._store.query(partial(self._store.verbs.read, listed.digest))
        assert met is not None
        return met

    def await_effects(self, count: int) -> None:
        """Return when the ledger has so many lines."""
        until(lambda: len(self.ledger) >= count, f"{count} effects")

    def await_state(self, *states: str) -> Checkpoint:
        """Return the only checkpoint once it is in one of these states."""

        def reached() -> Checkpoint | None:
            met = self.checkpoint
            return met if met.state in states else None

        return until(reached, f"the operation is {' or '.join(states)}")

    def files(self) -> bytes:
        """Everything that the store has on disk."""
        return b"".join(path.read_bytes() for path in sorted(self.directory.glob("store.db*")))


def expect_death(server: Server, path: str = "/charges") -> None:
    """Send a write whose server dies over it."""
    try:
        reply = server.post(path)
    except (Truncated, OSError):
        pass
    else:
        raise AssertionError(f"the server was to die, and answered {reply}")
    assert server.wait() == -signal.SIGKILL
