"""The shop's customers: they lose answers, meet servers that die, and try again with the same key."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from uuid import UUID

import msgspec

from retrysafe.demo.lanes import ORDERS_PATH
from retrysafe.demo.shop import Order, Receipt
from retrysafe.demo.web import encode
from retrysafe.demo.wire import Address, Answer, AnswerLost, HungUp, call

_ATTEMPT_SECONDS = 5.0
_FIRST_BACKOFF_SECONDS = 0.05
_LONGEST_BACKOFF_SECONDS = 0.5
_LONGEST_RETRY_AFTER_SECONDS = 1.0


class _Problem(msgspec.Struct, frozen=True):
    code: str = ""


class Word(Enum):
    """What a customer was told in the end."""

    PAID = auto()
    """201, with the bank's charge."""
    UNKNOWN = auto()
    """409 ``outcome-unknown``: nobody knows whether the charge happened, and nobody will guess."""
    REFUSED = auto()
    """Anything else that no retry will change; none of the lanes should say it."""


@dataclass(frozen=True, slots=True)
class Told:
    """A customer's last answer.

    Attributes:
        word: what it means.
        status: the HTTP status code.
        charge: the bank's charge it names, if any.
        replayed: True when it says that it is a replay.
        at: monotonic instant in seconds.
    """

    word: Word
    status: int
    charge: str | None
    replayed: bool
    at: float


@dataclass(slots=True)
class Tally:
    """What happened to a lane's customers so far.

    Attributes:
        told: each customer's last answer, by order.
        sent: requests sent, retries included.
        dropped: answers lost after the server had done its work.
        replays: answers that said that they are replays.
    """

    told: dict[str, Told] = field(default_factory=dict[str, Told])
    sent: int = 0
    dropped: int = 0
    replays: int = 0


class Customer:
    """One order, its key, and how this customer's luck goes: all from the seed, and so the same in every lane."""

    def __init__(self, number: int, seed: int, drop: float) -> None:
        """Decide everything.

        Args:
            number: from 1.
            seed: the run's seed.
            drop: probability that the first answer is lost.
        """
        self.luck = random.Random(f"{seed}/customer/{number}")
        self.order = f"order-{number:04}"
        self.key = str(UUID(int=self.luck.getrandbits(128), version=4))
        self.body = encode(Order(self.order, self.luck.randrange(500, 50_000)))
        self.loses_first_answer = self.luck.random() < drop
        self.path = ORDERS_PATH
        self.failures = 0

    def drops(self, answer: Answer) -> bool:
        """Tell whether this answer is lost: the first one that says 201, so that the server has done its work."""
        lost = self.loses_first_answer and answer.status == 201
        self.loses_first_answer = self.loses_first_answer and not lost
        return lost

    def pause_seconds(self, answer: Answer | None) -> float:
        """How long to wait before the next attempt: what the server asks for, else back-off with full jitter."""
        self.failures += 1
        asked = answer.headers.get("retry-after", "") if answer is not None else ""
        if asked.isdigit():
            return min(float(asked), _LONGEST_RETRY_AFTER_SECONDS)
        return self.luck.uniform(0, min(_FIRST_BACKOFF_SECONDS * 2**self.failures, _LONGEST_BACKOFF_SECONDS))


class Crowd:
    """All customers of one shop."""

    def __init__(self, customers: Sequence[Customer], parallel: int, shop: Address, tally: Tally) -> None:
        """Gather the customers.

        Args:
            customers: who comes.
            parallel: how many requests are under way at once.
            shop: where the shop listens.
            tally: takes what happens.
        """
        self._shop = shop
        self._tally = tally
        self._parallel = parallel
        self._customers = customers
        # Who tries again goes before who has not come yet.
        self._queue: asyncio.PriorityQueue[tuple[int, int]] = asyncio.PriorityQueue()
        self._served = asyncio.Event()

    async def shop(self, deadline_seconds: float) -> None:
        """Place every order and retry until each has a final answer, or the deadline is over."""
        for position in range(len(self._customers)):
            self._queue.put_nowait((1, position))
        workers = [asyncio.create_task(self._work()) for _ in range(self._parallel)]
        served = asyncio.create_task(self._served.wait())
        try:
            done, _ = await asyncio.wait(
                [served, *workers], timeout=deadline_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
        finally:
            for task in (served, *workers):
                task.cancel()
            await asyncio.gather(served, *workers, return_exceptions=True)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            _, position = await self._queue.get()
            customer = self._customers[position]
            answer = await self._try(customer)
            told = None if answer is None else judge(answer)
            if told is None:
                loop.call_later(customer.pause_seconds(answer), self._queue.put_nowait, (0, position))
                continue
            self._tally.told[customer.order] = told
            if len(self._tally.told) == len(self._customers):
                self._served.set()

    async def _try(self, customer: Customer) -> Answer | None:
        """Send the order once; None when there was no answer, or it was lost."""
        self._tally.sent += 1
        key = {"Idempotency-Key": customer.key}
        try:
            async with asyncio.timeout(_ATTEMPT_SECONDS):
                answer = await call(
                    self._shop, "POST", customer.path, customer.body, headers=key, hang_up=customer.drops
                )
        except HungUp:
            self._tally.dropped += 1
            return None
        except (AnswerLost, TimeoutError):
            return None
        self._tally.replays += _is_replay(answer)
        return answer


def judge(answer: Answer) -> Told | None:
    """Tell what an answer means to a customer; None when the same request is to be sent again."""
    at = time.monotonic()
    if answer.status == 201:
        charge = msgspec.json.decode(answer.body, type=Receipt).charge
        return Told(Word.PAID, answer.status, charge, _is_replay(answer), at)
    if answer.status >= 500 or "retry-after" in answer.headers:
        return None
    told_unknown = answer.status == 409 and msgspec.json.decode(answer.body, type=_Problem).code == "outcome-unknown"
    word = Word.UNKNOWN if told_unknown else Word.REFUSED
    return Told(word, answer.status, None, _is_replay(answer), at)


def _is_replay(answer: Answer) -> bool:
    return answer.headers.get("idempotent-replayed") == "true"


def orders_told(tally: Tally, word: Word) -> Sequence[str]:
    """Return the orders whose customers were told this in the end."""
    return [order for order, told in tally.told.items() if told.word is word]
