"""Making a client of nats-py that tries each server once and then says what was wrong."""

from __future__ import annotations

from typing import Any, cast

from nats.aio.client import Client
from nats.errors import NoServersError

from retrysafe.errors import StoreUnavailable
from retrysafe.stores.nats.wire import Connect

_NAME = "retrysafe"
# A connection over which nothing comes is found out after at most three of them.
_PING_SECONDS = 10
_LARGEST_BACKLOG_BYTES = 64 * 1024 * 1024


def connecting(servers: list[str], options: dict[str, Any], timeout_seconds: float) -> Connect:
    """Return the function that connects an event loop.

    Args:
        servers: addresses; tried one after another.
        options: more for ``nats.connect``.
        timeout_seconds: how long a server may take to answer.
    """

    async def connect() -> Client:
        errors: list[Exception] = []

        async def note(error: Exception) -> None:
            errors.append(error)

        settings: dict[str, Any] = {
            "name": _NAME,
            "connect_timeout": max(1, int(timeout_seconds / (len(servers) + 1))),
            "ping_interval": _PING_SECONDS,
            "pending_size": _LARGEST_BACKLOG_BYTES,
            **options,
            "servers": servers,
            "allow_reconnect": False,
            "max_reconnect_attempts": 1,
            "reconnect_time_wait": 0,
            "error_cb": note,
        }
        client = Client()
        try:
            await cast(Any, client).connect(**settings)
        except BaseException as error:
            # It leaves open what it had opened.
            transport = cast(Any, client)._transport  # noqa: SLF001
            if transport is not None:
                transport.close()
            if not isinstance(error, NoServersError):
                raise
            reasons = "; ".join(sorted({str(error) or type(error).__name__ for error in errors})) or "no server answers"
            raise StoreUnavailable(f"NATS: {reasons}") from None
        return client

    return connect
