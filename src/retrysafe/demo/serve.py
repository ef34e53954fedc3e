"""One server process of the demo: a bank, or a shop. ``python -m retrysafe.demo.serve SETTINGS``.

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
from retrysafe.demo.checkout.shop import CheckoutSettings, open_checkout
from retrysafe.demo.checkout.town import Town
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
        shop: set in a lane's shop's process.
        town: seed of the second act's services, set in their process.
        checkout: set in the second act's shop's process.
    """

    descriptor: int
    bank: BankSettings | None = None
    shop: ShopSettings | None = None
    town: int | None = None
    checkout: CheckoutSettings | None = None


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        os.write(sys.stdout.fileno(), READY)


def main() -> None:
    """Serve until told to stop."""
    settings = msgspec.json.decode(sys.argv[1], type=ServeSettings)
    threading.Thread(target=_end_with_parent, name="lifeline", daemon=True).start()
    listening = socket.socket(fileno=settings.descriptor)
    config = uvicorn.Config(
        _app(settings),
        http="httptools",
        ws="none",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=5,
    )
    _Server(config).run(sockets=[listening])


def _app(settings: ServeSettings) -> App:
    match settings:
        case ServeSettings(bank=BankSettings() as bank):
            return Bank(Ledger(honours_keys=bank.honours_keys), seed=bank.seed, seconds=bank.seconds)
        case ServeSettings(shop=ShopSettings() as shop):
            return open_shop(shop)
        case ServeSettings(town=int() as seed):
            return Town(seed)
        case ServeSettings(checkout=CheckoutSettings() as checkout):
            return open_checkout(checkout)
        case _:
            message = "say what to serve: bank or shop"
            raise SystemExit(message)


def _end_with_parent() -> None:
    """End at once when the other end of our input is closed: by the demo, or by its death."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
