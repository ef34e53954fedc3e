"""The shop of the second act: reserve, charge, the point of no return, ship. It is what an application would write."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from retrysafe import SHARED, Call, NoEffect, Probe, Response, RetrySafe, current_operation, retry
from retrysafe.adapters.asgi import RetrySafeMiddleware
from retrysafe.demo.census import checkpoints_url
from retrysafe.demo.checkout.moods import DECLINED_STATUS, SOLD_OUT_STATUS
from retrysafe.demo.checkout.orders import CHECKOUT_PATH, HURRIED_PATH, Basket
from retrysafe.demo.checkout.town import STEP_SECONDS, Ask
from retrysafe.demo.lanes import LEASE_SECONDS, SCAN_SECONDS
from retrysafe.demo.shop import Receipt
from retrysafe.demo.web import answer_json, body_of, encode
from retrysafe.demo.wire import Address
from retrysafe.demo.wire import call as send_to

if TYPE_CHECKING:
    from retrysafe.adapters.asgi.types import App, Receive, Scope, Send

_SAME_KEY = retry(key_retention=timedelta(days=1))
_ATTEMPTS = 40
"""More than kills and moods together can cost, so that no order is spent past its pivot, even on a slow machine."""
_HURRIED_ATTEMPTS = 2
_REFUSALS = {DECLINED_STATUS: "the card was declined", SOLD_OUT_STATUS: "sold out"}


class CheckoutSettings(msgspec.Struct, frozen=True):
    """What the shop's process is started with.

    Attributes:
        host: where bank and warehouse listen.
        port: the same.
        folder: where the shop keeps its checkpoints.
    """

    host: str
    port: int
    folder: str


class ServiceFailed(Exception):
    """A service gave no answer to rely on; whether it did what it was asked is unknown."""


class _Town:
    """Where the services listen; here, because an undo is a plain function of a module that any process finds."""

    address = Address("127.0.0.1", 0)


async def reserve(call: Call, order: str, pieces: int) -> str:
    """Reserve stock at the warehouse."""
    await _ask(call, "/holds", order, pieces)
    return f"hold of {order}"


async def release(call: Call, _hold: str | None, order: str, pieces: int) -> None:
    """Give stock back; the warehouse finds it by the key of the call that reserved it."""
    await _ask(call, "/holds/undo", order, pieces)


async def charge(call: Call, order: str, cents: int) -> str:
    """Charge the order at the bank."""
    await _ask(call, "/charges", order, cents)
    return f"charge of {order}"


async def refund(call: Call, _charge: str | None, order: str, cents: int) -> None:
    """Give the money back, if it was taken."""
    await _ask(call, "/charges/undo", order, cents)


async def find_charge(call: Call, order: str, cents: int) -> object:
    """Ask the bank whether it charged under this key."""
    found = await _ask(call, "/charges/find", order, cents)
    return f"charge of {order}" if found else Probe.NOT_HAPPENED


async def ship(call: Call, order: str, pieces: int) -> None:
    """Send the parcel."""
    await _ask(call, "/parcels", order, pieces)


async def _ask(call: Call, path: str, order: str, amount: int) -> bool:
    """Call a service under the step's key; False when it has not found what it was asked for.

    Raises:
        NoEffect: it refused for good, and did nothing.
        ServiceFailed: anything else.
        AnswerLost: there was no answer.
    """
    answer = await send_to(_Town.address, "POST", path, encode(Ask(order, amount)), headers=call.headers)
    if answer.status in _REFUSALS:
        raise NoEffect(Response(answer.status, {"error": _REFUSALS[answer.status]}))
    if answer.status not in {200, 201, 404}:
        raise ServiceFailed(f"{path} answered {answer.status}")
    return answer.status != 404


async def check_out(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve ``POST /checkout``: the ASGI application behind the middleware."""
    operation = current_operation()
    if scope["type"] != "http" or operation is None:
        message = "the shop runs unprotected"
        raise NotImplementedError(message)
    basket = msgspec.json.decode(await body_of(receive), type=Basket)
    order, pieces = basket.order, basket.pieces
    await operation.step(reserve, order, pieces, undo=release, unknown=_SAME_KEY)
    paid = await operation.step(charge, order, basket.cents, undo=refund, unknown=Probe(find_charge))
    operation.pivot()
    await operation.step(ship, order, pieces, unknown=_SAME_KEY)
    await answer_json(send, 201, encode(Receipt(order, paid)))


def open_checkout(settings: CheckoutSettings) -> App:
    """Make the ASGI application of the shop."""
    _Town.address = Address(settings.host, settings.port)
    guard = RetrySafe(
        checkpoints_url(settings.folder),
        principal=SHARED,
        restore_principal=_one_caller,
        scan=timedelta(seconds=SCAN_SECONDS),
    )
    for path, attempts in ((CHECKOUT_PATH, _ATTEMPTS), (HURRIED_PATH, _HURRIED_ATTEMPTS)):
        guard.protect(
            f"POST {path}",
            mode="steps",
            spent="undo",
            attempts=attempts,
            lease=timedelta(seconds=LEASE_SECONDS),
            step_timeout=timedelta(seconds=STEP_SECONDS),
        )
    return RetrySafeMiddleware(check_out, guard)


def _one_caller(_: Scope, __: str) -> None:
    """Restore nothing: all customers of the demo share one scope."""
