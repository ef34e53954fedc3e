"""Real servers as plain processes on loopback ports, started once and shared by every test of the run."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path

import pytest

from retrysafe.stores.sqlite import SQLiteStore
from tests.servers.wire import PATIENCE_SECONDS, Connection, request

ROOT = Path(__file__).resolve().parents[2]
ASGI_APP = "tests.servers.apps.asgi_app:app"
WSGI_APP = "tests.servers.apps.wsgi_app:app"
# Below the ports that the kernel gives to clients, above those that services are found at.
STARTING_SECONDS = 60.0
PORTS = range(18_000, 29_000)


class Kind(StrEnum):
    """The servers that the adapters are promised for."""

    UVICORN = "uvicorn"
    UVICORN_H11 = "uvicorn-h11"
    HYPERCORN = "hypercorn"
    GRANIAN = "granian"
    GUNICORN_SYNC = "gunicorn-sync"
    GUNICORN_THREADS = "gunicorn-gthread"
    WSGIREF = "wsgiref"

    @property
    def asgi(self) -> bool:
        return self in ASGI

    @property
    def modules(self) -> tuple[str, ...]:
        """What must be installed."""
        if self is Kind.UVICORN:
            return ("uvicorn", "httptools", "uvloop")
        if self is Kind.UVICORN_H11:
            return ("uvicorn", "h11")
        return (self.partition("-")[0],)

    @property
    def missing(self) -> list[str]:
        """What is not."""
        return [module for module in self.modules if importlib.util.find_spec(module) is None]

    def command(self, port: int) -> list[str]:
        """What to run; each server keeps at least two requests in work at once."""
        bind = f"127.0.0.1:{port}"
        at = ["--host", "127.0.0.1", "--port", str(port)]
        match self:
            case Kind.UVICORN:
                told = ["--http=httptools", "--loop=uvloop", "--lifespan=on", "--log-level=warning", "--no-access-log"]
                return ["uvicorn", ASGI_APP, *at, *told]
            case Kind.UVICORN_H11:
                told = ["--http=h11", "--loop=asyncio", "--lifespan=on", "--log-level=warning", "--no-access-log"]
                return ["uvicorn", ASGI_APP, *at, *told]
            case Kind.HYPERCORN:
                return ["hypercorn", "--bind", bind, "--graceful-timeout", "2", ASGI_APP]
            case Kind.GRANIAN:
                return ["granian", "--interface", "asgi", *at, "--loop", "asyncio", "--log-level", "warning", ASGI_APP]
            case Kind.GUNICORN_SYNC:
                told = ["--worker-class", "sync", "--workers", "3", "--preload"]
                return ["gunicorn", "--bind", bind, *told, *_GUNICORN, WSGI_APP]
            case Kind.GUNICORN_THREADS:
                told = ["--worker-class", "gthread", "--threads", "4"]
                return ["gunicorn", "--bind", bind, *told, *_GUNICORN, WSGI_APP]
            case Kind.WSGIREF:
                return ["tests.servers.apps.wsgiref_main", str(port)]


_GUNICORN = ("--no-control-socket", "--graceful-timeout", "2", "--log-level", "warning", "--keep-alive", "30")
ASGI = (Kind.UVICORN, Kind.UVICORN_H11, Kind.HYPERCORN, Kind.GRANIAN)
WSGI = (Kind.GUNICORN_SYNC, Kind.GUNICORN_THREADS, Kind.WSGIREF)
# The others close the connection after each response.
KEEP_ALIVE = (*ASGI, Kind.GUNICORN_THREADS)
# wsgiref gives the application no way to know where a chunked body ends.
CHUNKED = (*ASGI, Kind.GUNICORN_SYNC, Kind.GUNICORN_THREADS)


@dataclass
class Server:
    """One running server."""

    kind: Kind
    port: int
    directory: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @cached_property
    def store(self) -> SQLiteStore:
        """The store that the server uses."""
        return SQLiteStore(self.directory / "store.db")

    def connect(self, *, receive_buffer: int | None = None) -> Connection:
        return Connection(self.port, receive_buffer=receive_buffer)

    def effects(self, label: str) -> int:
        """How often the effect called ``label`` happened."""
        try:
            return (self.directory / "ledger").read_text().split("\n").count(label)
        except FileNotFoundError:
            return 0

    def events(self, name: str) -> list[str]:
        """The lines that the guard's events wrote about the operation called ``name``."""
        try:
            lines = (self.directory / "events").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [line for line in lines if f"(name={name!r}" in line]


class Pool:
    """The servers of one test run, each started when it is first needed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._servers: dict[Kind, Server] = {}
        self._ready: set[Kind] = set()

    def get(self, kind: Kind) -> Server:
        """Return the server of a kind, ready to answer."""
        if kind.missing:
            what = f"{kind} needs {', '.join(kind.missing)}: {sys.executable} -m pip install {' '.join(kind.missing)}"
            if os.environ.get("CI", "").lower() in {"", "0", "false"}:
                pytest.skip(what)
            pytest.fail(what)
        server = self._servers.get(kind) or self.launch(kind)
        if kind not in self._ready:
            await_ready(server)
            self._ready.add(kind)
        return server

    def launch(self, kind: Kind) -> Server:
        """Start a server without waiting for it."""
        directory = self._directory / kind
        directory.mkdir()
        server = self._servers[kind] = launch(kind, directory)
        return server

    def stop(self) -> dict[Kind, int]:
        """Stop every server, and return their exit codes."""
        codes = {kind: stop(server.process) for kind, server in self._servers.items()}
        for server in self._servers.values():
            server.store.close()
        self._servers.clear()
        return codes


def launch(kind: Kind, directory: Path) -> Server:
    """Start a server; it is ready when it answers."""
    port = free_port()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        "PYTHONUNBUFFERED": "1",
        "RETRYSAFE_TEST_DIRECTORY": str(directory),
    }
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.apps.launch", str(os.getpid()), *kind.command(port)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Server(kind, port, directory, process)


def await_ready(server: Server) -> None:
    """Return when the server has answered a request."""
    give_up_at = time.monotonic() + STARTING_SECONDS
    while time.monotonic() < give_up_at and server.process.poll() is None:
        try:
            with server.connect() as connection:
                connection.send(request("GET", "/ready"))
                if connection.reply("GET").status == 200:
                    return
        except OSError:
            time.sleep(0.02)
    pytest.fail(f"{server.kind} did not start:\n{server.log.read_text()}")


def stop(process: subprocess.Popen[bytes]) -> int:
    """Ask a process to stop, and kill its whole group when it does not."""
    process.terminate()
    try:
        return process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        return -signal.SIGKILL
    finally:
        # Workers that outlived their master; the group is ours, because it was started as a session of its own.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_SECONDS)


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens at."""
    for port in random.Random().sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    pytest.fail("every port is taken")
