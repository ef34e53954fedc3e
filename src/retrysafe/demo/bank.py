"""The bank: charges orders, counts what it did, and honours keys as real ones do, if it is told to.

It lives in a process of its own that nobody kills: what it says at the end is what happened to people's money.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from retrysafe.demo.web import answer_json, body_of, encode, header_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrysafe.adapters.asgi.types import Receive, Scope, Send


class ChargeRequest(msgspec.Struct, frozen=True):
    """What a shop asks the bank."""

    lane: str
    order: str
    cents: int


class Posting(msgspec.Struct, frozen=True):
    """One call that the bank carried out.

    Attributes:
        lane: which lane's shop called.
        order: which order it was for.
        charge: id of the charge that was made, or made before under the same key.
        repeated: True when the key had been seen, so that no money moved.
        at: monotonic instant in seconds, comparable between processes of one machine.
    """

    lane: str
    order: str
    charge: str
    repeated: bool
    at: float


class Ledger:
    """Every posting, in order."""

    def __init__(self, *, honours_keys: bool) -> None:
        """Begin empty.

        Args:
            honours_keys: whether a key that was seen gets its charge again instead of a second one.
        """
        self._honours_keys = honours_keys
        self._charges: dict[tuple[str, str], str] = {}
        self._postings: list[Posting] = []

    def post(self, request: ChargeRequest, key: str | None, at: float) -> Posting:
        """Charge, or recognise the key. Atomic, because nothing in it waits."""
        known = self._charges.get((request.lane, key)) if key is not None and self._honours_keys else None
        charge = known or f"ch_{len(self._postings):05}"
        posting = Posting(request.lane, request.order, charge, known is not None, at)
        self._postings.append(posting)
        if key is not None:
            self._charges[request.lane, key] = charge
        return posting

    def of(self, lane: str) -> Sequence[Posting]:
        """Return the postings of one lane."""
        return [posting for posting in self._postings if posting.lane == lane]


def charges_by_order(postings: Sequence[Posting]) -> Counter[str]:
    """Count how often money moved for each order."""
    return Counter(posting.order for posting in postings if not posting.repeated)


class Bank:
    """The ASGI application: ``POST /charges``, ``GET /ledger/{lane}`` and ``GET /settled/{lane}``.

    The last waits until no call of that lane is under way: a shop that was killed may have left one behind, and the
    bank carries it out all the same.
    """

    def __init__(self, ledger: Ledger, *, seed: int, seconds: float) -> None:
        """Serve a ledger.

        Args:
            ledger: what is charged.
            seed: decides how long each order's calls take.
            seconds: how long a call takes on average; the charge is somewhere inside, so that a kill can come before
                it or after it.
        """
        self._ledger = ledger
        self._seed = seed
        self._seconds = seconds
        self._under_way = Counter[str]()
        self._changed = asyncio.Condition()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        match scope["method"], scope["path"].split("/"):
            case "POST", ["", "charges"]:
                request = msgspec.json.decode(await body_of(receive), type=ChargeRequest)
                posting = await self._charge(request, header_of(scope, b"idempotency-key"))
                await answer_json(send, 201, encode(posting))
            case "GET", ["", "ledger", lane]:
                await answer_json(send, 200, encode(self._ledger.of(lane)))
            case "GET", ["", "settled", lane]:
                async with self._changed:
                    await self._changed.wait_for(lambda: not self._under_way[lane])
                await answer_json(send, 200, encode(self._ledger.of(lane)))
            case _:
                await answer_json(send, 404, b"{}")

    async def _charge(self, request: ChargeRequest, key: str | None) -> Posting:
        pace = random.Random(f"{self._seed}/bank/{request.order}")
        self._under_way[request.lane] += 1
        try:
            await asyncio.sleep(pace.uniform(0.2, 0.8) * self._seconds)
            posting = self._ledger.post(request, key, time.monotonic())
            await asyncio.sleep(pace.uniform(0.2, 0.8) * self._seconds)
        finally:
            async with self._changed:
                self._under_way[request.lane] -= 1
                self._changed.notify_all()
        return posting
