"""The shop: takes an order, charges it at the bank, answers 201. Three lanes run this same code.

They differ in what stands between the client and :meth:`Shop.sell`, and in the key that the bank is given.
"""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, assert_never
from uuid import uuid4

import msgspec

from retrysafe import SHARED, RetrySafe, current_operation
from retrysafe.adapters.asgi import RetrySafeMiddleware
from retrysafe.demo.bank import ChargeRequest, Posting
from retrysafe.demo.census import checkpoints_url
from retrysafe.demo.journal import Journal
from retrysafe.demo.lanes import LEASE_SECONDS, ORDERS_PATH, SCAN_SECONDS, Lane
from retrysafe.demo.web import answer_json, body_of, encode, header_of
from retrysafe.demo.wire import Address, call

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrysafe.adapters.asgi.types import App, Receive, Scope, Send


class Order(msgspec.Struct, frozen=True):
    """What a customer sends."""

    order: str
    cents: int


class Receipt(msgspec.Struct, frozen=True):
    """What a customer gets."""

    order: str
    charge: str


class ShopSettings(msgspec.Struct, frozen=True):
    """What a shop's process is started with.

    Attributes:
        lane: which lane.
        bank_host: where the bank listens.
        bank_port: the same.
        folder: where the lane keeps its files.
        mode: what lane C declares about ``POST /orders``.
        attempts: how many attempts lane C allows; more than there are kills, so that the demo never runs into it.
    """

    lane: Lane
    bank_host: str
    bank_port: int
    folder: str
    mode: Literal["again", "once"]
    attempts: int


class Shop:
    """Lane A, and the inside of the others: whatever arrives is sold."""

    def __init__(self, lane: Lane, bank: Address, bank_key: Callable[[str], str]) -> None:
        """Open a shop.

        Args:
            lane: under which name the bank keeps its charges.
            bank: where the bank listens.
            bank_key: makes the key of the call to the bank for an order.
        """
        self._lane = lane
        self._bank = bank
        self._bank_key = bank_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            message = "the shop needs no lifespan"
            raise NotImplementedError(message)
        await answer_json(send, 201, await self.sell(await body_of(receive)))

    async def sell(self, body: bytes) -> bytes:
        """Charge an order at the bank and return the receipt as JSON.

        Raises:
            AnswerLost: the bank's answer was lost, and whether it charged is unknown.
        """
        order = msgspec.json.decode(body, type=Order)
        request = encode(ChargeRequest(self._lane, order.order, order.cents))
        key = {"Idempotency-Key": self._bank_key(order.order)}
        answer = await call(self._bank, "POST", "/charges", request, headers=key)
        posting = msgspec.json.decode(answer.body, type=Posting)
        return encode(Receipt(order.order, posting.charge))


class CachedShop(Shop):
    """Lane B: get, run, set. A file stands in for Redis; like Redis it outlives the process, so a set counts."""

    def __init__(self, lane: Lane, bank: Address, bank_key: Callable[[str], str], path: str) -> None:
        """Open a shop with its cache; see :class:`Shop`."""
        super().__init__(lane, bank, bank_key)
        self._cache = sqlite3.connect(path, isolation_level=None)
        self._cache.execute("PRAGMA journal_mode = WAL")
        self._cache.execute("PRAGMA synchronous = NORMAL")
        self._cache.execute("CREATE TABLE IF NOT EXISTS answer (key TEXT PRIMARY KEY, body BLOB NOT NULL)")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        key = header_of(scope, b"idempotency-key")
        found = self._cache.execute("SELECT body FROM answer WHERE key = ?", (key,)).fetchone()
        if found is not None:
            await answer_json(send, 201, found[0], replayed=True)
            return
        body = await self.sell(await body_of(receive))
        # A process that dies here has charged and forgets it. Nothing was written before, so nobody will know.
        self._cache.execute("INSERT OR REPLACE INTO answer VALUES (?, ?)", (key, body))
        await answer_json(send, 201, body)


def open_shop(settings: ShopSettings) -> App:
    """Make the ASGI application of a lane."""
    lane, bank = settings.lane, Address(settings.bank_host, settings.bank_port)
    match lane:
        case Lane.NOTHING:
            return Shop(lane, bank, _fresh_key)
        case Lane.CACHE:
            return CachedShop(lane, bank, _fresh_key, f"{settings.folder}/cache.db")
        case Lane.RETRYSAFE:
            journal = Journal(f"{settings.folder}/journal.jsonl")
            return RetrySafeMiddleware(Shop(lane, bank, _child_key(journal)), _guard(settings, journal))
        case _:
            assert_never(lane)


def _guard(settings: ShopSettings, journal: Journal) -> RetrySafe:
    guard = RetrySafe(
        checkpoints_url(settings.folder),
        principal=SHARED,
        restore_principal=_one_caller,
        scan=timedelta(seconds=SCAN_SECONDS),
        sinks=[journal],
    )
    lease = timedelta(seconds=LEASE_SECONDS)
    guard.protect(f"POST {ORDERS_PATH}", mode=settings.mode, lease=lease, attempts=settings.attempts)
    return guard


def _one_caller(_: Scope, __: str) -> None:
    """Restore nothing: all customers of the demo share one scope."""


def _fresh_key(_: str) -> str:
    """Make a new key for each call, as code does that was not written with its own death in mind."""
    return str(uuid4())


def _child_key(journal: Journal) -> Callable[[str], str]:
    """Derive the key from the operation: the same for every attempt, in whichever process it runs."""

    def derive(order: str) -> str:
        operation = current_operation()
        if operation is None:
            message = "the shop runs unprotected"
            raise RuntimeError(message)
        journal.note("Charging", operation.id, attempt=operation.attempt, order=order)
        return operation.child_key("charge")

    return derive
