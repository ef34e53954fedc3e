"""Starting, killing and restarting the demo's own server processes, by their pid and never by a name."""

from __future__ import annotations

import asyncio
import socket
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from pathlib import Path
from typing import Self

import msgspec

from retrysafe.demo.serve import READY, ServeSettings
from retrysafe.demo.wire import Address

_START_SECONDS = 20.0
_STOP_SECONDS = 8.0
_BACKLOG = 256
_LOG_LINES = 12


class DemoFailed(Exception):
    """The demo itself could not go on; says nothing about any lane."""


class Socket:
    """A listening socket on a free port of this machine, kept by the demo and inherited by one server after another.

    As with socket activation, a client that connects between two servers waits for the next one.
    """

    def __init__(self) -> None:
        """Listen."""
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        host, port = self.listening.getsockname()
        self.address = Address(host, port)

    def __enter__(self) -> Self:
        """Give the socket."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening."""
        self.listening.close()


class Server:
    """One server process."""

    def __init__(self, process: Process, log: Path) -> None:
        """Keep a process that is ready."""
        self._process = process
        self._log = log

    @classmethod
    async def start(cls, settings: ServeSettings, log: Path) -> Server:
        """Start a process and return once it serves.

        It is a session of its own, so that Ctrl-C reaches the demo only, and its input is a lifeline: whatever ends
        the demo ends it.

        Args:
            settings: what it serves, and on which inherited socket.
            log: takes what it has to say.

        Raises:
            DemoFailed: it ended, or did not serve within 20 s.
        """
        command = (sys.executable, "-m", "retrysafe.demo.serve", msgspec.json.encode(settings).decode())
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=PIPE,
                stdout=PIPE,
                stderr=errors,
                pass_fds=(settings.descriptor,),
                start_new_session=True,
            )
        server = cls(process, log)
        try:
            await server._until_ready()
        except BaseException:
            await server.kill()
            raise
        return server

    async def _until_ready(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        try:
            async with asyncio.timeout(_START_SECONDS):
                if await self._process.stdout.readline() == READY:
                    return
        except TimeoutError:
            pass
        raise DemoFailed(self._last_words("did not start"))

    async def ended(self) -> None:
        """Wait until the process ends by itself, which it never should.

        Raises:
            DemoFailed: it did.
        """
        await self._process.wait()
        raise DemoFailed(self._last_words("ended by itself"))

    async def kill(self) -> None:
        """``kill -9``: no clean-up, no last write. Safe to call again."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()

    async def stop(self) -> None:
        """Ask the process to end as a deployment would, and kill it if it does not."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(_STOP_SECONDS):
                    await self._process.wait()
        await self.kill()

    def _last_words(self, what: str) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        return "\n  | ".join([f"a server of the demo {what}; its last words:", *(lines or ["(none)"])])
