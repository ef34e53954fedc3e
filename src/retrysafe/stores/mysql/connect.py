"""How a MySQL or MariaDB server is reached, and what is said to it first."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil
from typing import Any

# The server itself ends a statement first, and says why; only one that is frozen, or cut off, says nothing.
_GRACE_SECONDS = 2.0
# Of the time that a statement may take, so that it is the lock that is said to be in the way.
_OF_IT_FOR_LOCKS = 3
# What an application or a server has set for itself must not turn a wrong value into another one, or text into
# something else than it says.
_SQL_MODE = "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"


class TLS(StrEnum):
    """How a connection is encrypted."""

    OFF = "off"
    REQUIRED = "required"
    """Encrypted, whoever answers."""
    VERIFY = "verify"
    """Encrypted, and the server proves that it is the host of the URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the server is reached.

    Attributes:
        host: name or address; unused with a socket.
        port: on it.
        account: whom we connect as; None is the one of the operating system.
        password: of the account.
        database: which one holds the tables.
        socket: path of a UNIX socket, instead of host and port.
        tls: how connections are encrypted.
        tls_ca: file of the certificates that are trusted, if not the system's.
        tls_cert: file of our own certificate, with its key unless ``tls_key`` has that.
        tls_key: file of our own key.
        pool: most connections for threads, and for each event loop.
        timeout_seconds: after so long a statement is ended, and a transaction that does nothing.
        migrate: whether this process may create and change tables.
    """

    host: str = "localhost"
    port: int = 3306
    account: str | None = None
    password: str = field(default="", repr=False)
    database: str
    socket: str | None = None
    tls: TLS = TLS.OFF
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    pool: int = 8
    timeout_seconds: float = 10.0
    migrate: bool = True

    def parameters(self) -> dict[str, Any]:
        """Return what both drivers connect with.

        Raises:
            OSError: a certificate's file cannot be read.
        """
        found: dict[str, Any] = {
            "user": self.account,
            "password": self.password,
            "database": self.database,
            "charset": "utf8mb4",
            "autocommit": True,
            "connect_timeout": max(1.0, self.timeout_seconds),
            "read_timeout": self.patience_seconds,
            "program_name": "retrysafe",
        }
        if self.socket is not None:
            return found | {"unix_socket": self.socket}
        return found | {"host": self.host, "port": self.port}

    def context(self) -> ssl.SSLContext | None:
        """Return how connections are encrypted; None when they are not.

        Raises:
            OSError: a certificate's file cannot be read.
        """
        if self.tls is TLS.OFF:
            return None
        context = ssl.create_default_context(cafile=self.tls_ca)
        if self.tls is TLS.REQUIRED:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.tls_cert is not None:
            context.load_cert_chain(self.tls_cert, self.tls_key)
        return context

    @property
    def patience_seconds(self) -> float:
        """How long we wait for an answer to one statement."""
        return self.timeout_seconds + _GRACE_SECONDS

    def greeting(self, version: str) -> tuple[str, ...]:
        """Return what is said at the beginning of a connection.

        Args:
            version: what the server said of itself.
        """
        seconds = max(1, ceil(self.timeout_seconds))
        limits = (
            f"max_statement_time = {self.timeout_seconds}, idle_transaction_timeout = {seconds}"
            if is_mariadb(version)
            # MySQL ends no transaction for being idle, only a session; ours rest no longer than that, either. And of
            # statements only those that read.
            else f"max_execution_time = {max(1, int(self.timeout_seconds * 1000))}, wait_timeout = {seconds}"
        )
        locks = max(1, int(self.timeout_seconds / _OF_IT_FOR_LOCKS))
        return (
            f"SET SESSION sql_mode = '{_SQL_MODE}', innodb_lock_wait_timeout = {locks}, {limits}",
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        )


def is_mariadb(version: str) -> bool:
    """Tell MariaDB from MySQL by what a server says of itself."""
    return "mariadb" in version.lower()
