"""How a Redis server is reached, and what it must keep."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from enum import StrEnum

from retrysafe.stores.redis.calls import Words


class Persistence(StrEnum):
    """What an acknowledged write survives, as the server's operator declares it and the store checks it (D3)."""

    NONE = "none"
    """Nothing: a server that ends takes it along."""
    EVERYSEC = "everysec"
    """The end of the server, and power loss but for the last second or two."""
    ALWAYS = "always"
    """Power loss of its node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How the server's certificate is checked, and which one is shown to it; files in PEM.

    Attributes:
        ca: of whom certificates are accepted; None is those that the system accepts.
        cert: ours.
        key: its key, where it is not in the same file.
        verify: whether the server's is checked at all.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """Read the files.

        Raises:
            OSError: one can't be used.
        """
        context = ssl.create_default_context(cafile=self.ca)
        if self.cert is not None:
            context.load_cert_chain(self.cert, self.key)
        if not self.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the server is reached.

    Attributes:
        host: name or address.
        port: TCP port.
        db: number of the database.
        username: for the server's access list; None is its default user.
        password: of that user.
        tls: how the connection is secured; None without TLS.
        protocol: version of RESP, 2 or 3.
        pool: most connections for threads; an event loop has one.
        timeout_seconds: after so long without an answer a connection is given up.
        wait: how many replicas must have a write before it counts.
    """

    host: str = "localhost"
    port: int = 6379
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    protocol: int = 2
    pool: int = 8
    timeout_seconds: float = 5.0
    wait: int = 0

    def handshake(self) -> list[Words]:
        """Return the commands with which a connection begins; an error to any is one of all."""
        commands: list[Words] = []
        if self.password is not None:
            who = () if self.username is None else (self.username,)
            commands.append(("AUTH", *who, self.password))
        if self.protocol != 2:
            commands.append(("HELLO", self.protocol))
        if self.db:
            commands.append(("SELECT", self.db))
        # So that a server that is not ready yet is told from one that is.
        return [*commands, ("PING",)]

    @property
    def waiting(self) -> Words:
        """The command that waits for replicas, and a little shorter than we wait for it."""
        return ("WAIT", self.wait, max(1, int(self.timeout_seconds * 800)))
