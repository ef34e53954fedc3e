"""The second act from beginning to end: a town, a shop that is killed, its customers, recovery, and the count."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

import msgspec

from retrysafe.demo.census import states_in, unfinished
from retrysafe.demo.checkout.orders import Buyer
from retrysafe.demo.checkout.report import CheckoutReport
from retrysafe.demo.checkout.shop import CheckoutSettings
from retrysafe.demo.checkout.town import Pages
from retrysafe.demo.client import Crowd, Tally
from retrysafe.demo.lives import live_and_die
from retrysafe.demo.process import Server, Socket
from retrysafe.demo.serve import ServeSettings
from retrysafe.demo.wire import Address, call

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from retrysafe.demo.settings import DemoSettings

_LOOK_SECONDS = 0.1
_SHORTEST_LIFE_SECONDS, _LONGEST_LIFE_SECONDS = 0.15, 0.6


class Checkout:
    """The second act under way.

    Attributes:
        tally: what the customers met so far.
        kills: how often the shop was killed so far.
    """

    def __init__(self, settings: DemoSettings, seed: int, folder: Path, say: Callable[[str], None]) -> None:
        """Prepare it.

        Args:
            settings: how large and how rough.
            seed: the run's seed.
            folder: an existing folder for files.
            say: told of each kill.
        """
        self.tally = Tally()
        self.kills = 0
        self._settings = settings
        self._seed = seed
        self._folder = folder
        self._say = say
        self._buyers = [Buyer(number, seed, settings.drop) for number in range(1, settings.checkouts + 1)]

    async def run(self) -> CheckoutReport:
        """Serve every order, let recovery end, and count.

        Raises:
            DemoFailed: a server ended by itself or did not start.
        """
        with Socket() as square:
            opening = ServeSettings(square.listening.fileno(), town=self._seed)
            town = await Server.start(opening, self._folder / "town.txt")
            try:
                async with asyncio.TaskGroup() as group:
                    watched = group.create_task(town.ended())
                    seconds = await self._trade(square.address)
                    watched.cancel()
                answer = await call(square.address, "GET", "/settled")
            finally:
                await town.stop()
        return CheckoutReport(
            baskets=[buyer.basket for buyer in self._buyers],
            tally=self.tally,
            pages=msgspec.json.decode(answer.body, type=Pages),
            states=await asyncio.to_thread(states_in, str(self._folder)),
            kills=self.kills,
            seconds=seconds,
        )

    async def _trade(self, town: Address) -> float:
        """Let the customers shop while the shop is killed; return the seconds until nothing was open."""
        settings, over = self._settings, asyncio.Event()
        began_at = time.monotonic()
        with Socket() as door:
            crowd = Crowd(self._buyers, settings.parallel, door.address, self.tally)
            shop = CheckoutSettings(town.host, town.port, str(self._folder))
            serving = ServeSettings(door.listening.fileno(), checkout=shop)
            async with asyncio.TaskGroup() as both:
                both.create_task(live_and_die(serving, self._folder / "log.txt", self._lives(), over, self._killed))
                await crowd.shop(settings.deadline_seconds)
                await self._recovered(settings.deadline_seconds)
                seconds = time.monotonic() - began_at
                over.set()
        return seconds

    async def _recovered(self, deadline_seconds: float) -> None:
        """Wait until nothing is open in the store, or the deadline is over."""
        give_up_at = time.monotonic() + deadline_seconds
        folder = str(self._folder)
        # The store is another process's: there is no event to wait for.
        while time.monotonic() < give_up_at and unfinished(await asyncio.to_thread(states_in, folder)):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SECONDS)

    def _lives(self) -> list[float]:
        luck = random.Random(f"{self._seed}/lives")
        return [
            luck.uniform(_SHORTEST_LIFE_SECONDS, _LONGEST_LIFE_SECONDS) for _ in range(self._settings.checkout_kills)
        ]

    def _killed(self) -> None:
        self.kills += 1
        self._say(f"  kill -9 number {self.kills}: {len(self.tally.told)} of {len(self._buyers)} orders have their end")
