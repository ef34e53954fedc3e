"""One server process of the demo: the bank, or the shop of a lane. ``python -m retrysafe.demo.serve SETTINGS``.

It serves on a listening socket that it inherits, says ``ready`` on its output once it does, and ends when its input
ends, so that nothing is left behind when the demo itself is killed.
"""

from __future__ import annotations

import os
import socket
import sys
import threading

import msgspec

from retrysafe.adapters.asgi.types import App
from retrysafe.demo.bank import Bank, Ledger
from retrysafe.demo.shop import ShopSettings, open_shop

try:
    import uvicorn
except ImportError as error:
    message = "the demo needs what its extra brings: pip install 'retrysafe[demo]'"
    raise ImportError(message) from error

READY = b"ready\n"


class BankSettings(msgspec.Struct, frozen=True):
    """What the bank's process is started with; see :class:`~retrysafe.demo.bank.Bank`."""

    seed: int
    seconds: float
    honours_keys: bool


class ServeSettings(msgspec.Struct, frozen=True):
    """What a server process is started with.

    Attributes:
        descriptor: number of the inherited listening socket.
        bank: set in the bank's process.
        shop: set in a shop's process.
    """

    descriptor: int
    bank: BankSettings | None = None
    shop: ShopSettings | None = None


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        os.write(sys.stdout.fileno(), READY)


def main() -> None:
    """Serve until told to stop."""
    settings = msgspec.json.decode(sys.argv[1], type=ServeSettings)
    threading.Thread(target=_end_with_parent, name="lifeline", daemon=True).start()
    listening = socket.socket(fileno=settings.descriptor)
    app: App
    if settings.bank is not None:
        bank = settings.bank
        app = Bank(Ledger(honours_keys=bank.honours_keys), seed=bank.seed, seconds=bank.seconds)
    elif settings.shop is not None:
        app = open_shop(settings.shop)
    else:
        message = "say what to serve: bank or shop"
        raise SystemExit(message)
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=5,
    )
    _Server(config).run(sockets=[listening])


def _end_with_parent() -> None:
    """End at once when the other end of our input is closed: by the demo, or by its death."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
