"""The bank and the warehouse, in a process of their own that nobody kills: three books, and moods."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from retrysafe.demo.checkout.books import Book, Page
from retrysafe.demo.checkout.moods import Mood, mood_of, refusal_of
from retrysafe.demo.web import answer_json, body_of, encode, header_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrysafe.adapters.asgi.types import Receive, Scope, Send

STEP_SECONDS = 0.5
"""Time-out of the shop's steps; what hangs, hangs for longer."""

_CALL_SECONDS = 0.03
_HANG_SECONDS = 0.8
_LATE_SECONDS = 2.5


class Ask(msgspec.Struct, frozen=True):
    """What the shop asks a service.

    Attributes:
        order: which order it is for.
        amount: cents, or pieces.
    """

    order: str
    amount: int


class Pages(msgspec.Struct):
    """Every book at the end.

    Attributes:
        charges: the bank's, in cents.
        holds: the warehouse's reservations, in pieces.
        parcels: the warehouse's shipments, in pieces.
    """

    charges: Page
    holds: Page
    parcels: Page


class Town:
    """The ASGI application of both services.

    ``POST /charges``, ``/holds`` and ``/parcels`` do something, ``…/undo`` takes it back, ``…/find`` tells whether it
    happened; ``GET /settled`` waits until no call is under way and gives all the books.
    """

    def __init__(self, seed: int) -> None:
        """Open with empty books.

        Args:
            seed: decides the moods.
        """
        self._seed = seed
        self._books = {"charges": Book(), "holds": Book(), "parcels": Book()}
        self._met = Counter[tuple[str, str]]()
        self._under_way = 0
        self._changed = asyncio.Condition()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        book, _, verb = scope["path"].strip("/").partition("/")
        if scope["method"] == "GET" and book == "settled":
            async with self._changed:
                await self._changed.wait_for(lambda: not self._under_way)
            pages = {name: each.page for name, each in self._books.items()}
            await answer_json(send, 200, encode(Pages(**pages)))
            return
        if book not in self._books or verb not in {"", "undo", "find"}:
            await answer_json(send, 404, b"{}")
            return
        self._under_way += 1
        try:
            await self._serve(book, verb, scope, receive, send)
        finally:
            async with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    async def _serve(self, name: str, verb: str, scope: Scope, receive: Receive, send: Send) -> None:
        ask = msgspec.json.decode(await body_of(receive), type=Ask)
        what = f"{name}/{verb}" if verb else name
        self._met[what, ask.order] += 1
        self._books[name].page.calls += 1
        mood = mood_of(self._seed, what, ask.order, self._met[what, ask.order])
        await asyncio.sleep(random.Random(f"{self._seed}/pace/{what}/{ask.order}").uniform(0.5, 1.5) * _CALL_SECONDS)
        if mood is Mood.FAILS_BEFORE:
            await answer_json(send, 503, b"{}")
            return
        if mood.comes_late:
            await asyncio.sleep(_HANG_SECONDS if mood is Mood.HANGS_BEFORE else _LATE_SECONDS)
        status = self._work(name, verb, ask, lambda header: header_of(scope, header) or "")
        if mood is Mood.HANGS_AFTER:
            await asyncio.sleep(_HANG_SECONDS)
        await _answer(send, 503 if mood is Mood.FAILS_AFTER else status, mood)

    def _work(self, name: str, verb: str, ask: Ask, header: Callable[[bytes], str]) -> int:
        """Do what is asked, and return the status that says so."""
        book, key = self._books[name], header(b"idempotency-key")
        match verb:
            case "undo":
                book.undo(header(b"idempotency-undoes"))
                return 200
            case "find":
                return 200 if book.has(key) else 404
            case _:
                refusal = refusal_of(self._seed, name, ask.order)
                if refusal is not None:
                    return refusal
                return 201 if book.do(key, ask.order, ask.amount) else 410


async def _answer(send: Send, status: int, mood: Mood) -> None:
    if mood is Mood.FORGETS:
        # An answer that ends before its end: the server closes the connection, and the caller knows nothing.
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})
        return
    await answer_json(send, status, b"{}")
