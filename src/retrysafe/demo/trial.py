"""One lane's run: a server that is killed again and again, its customers, and what there is to count afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from retrysafe.demo.bank import Posting
from retrysafe.demo.census import states_in
from retrysafe.demo.client import Crowd, Customer, Tally
from retrysafe.demo.journal import read_journal
from retrysafe.demo.lanes import Lane
from retrysafe.demo.lives import live_and_die
from retrysafe.demo.process import Socket
from retrysafe.demo.report import LaneReport
from retrysafe.demo.serve import ServeSettings
from retrysafe.demo.settings import DemoSettings
from retrysafe.demo.shop import ShopSettings
from retrysafe.demo.wire import Address, call


class Trial:
    """One lane under way.

    Attributes:
        lane: which lane.
        tally: what its customers met so far.
        kills: monotonic instants of each ``kill -9`` so far.
        report: what was counted, once the lane has ended.
    """

    def __init__(self, lane: Lane, settings: DemoSettings, seed: int, bank: Address, folder: Path) -> None:
        """Prepare a lane.

        Args:
            lane: which lane.
            settings: how large and how rough.
            seed: the run's seed.
            bank: where the bank listens.
            folder: an existing folder for the lane's files.
        """
        self.lane = lane
        self.tally = Tally()
        self.kills: list[float] = []
        self.report: LaneReport | None = None
        self._settings = settings
        self._seed = seed
        self._bank = bank
        self._folder = folder

    async def run(self) -> LaneReport:
        """Serve every order, and count.

        Raises:
            DemoFailed: a server ended by itself or did not start.
        """
        with Socket() as shop:
            crowd = Crowd(self._customers(), self._settings.parallel, shop.address, self.tally)
            over = asyncio.Event()
            async with asyncio.TaskGroup() as both:
                serving = both.create_task(self._serve(shop.listening.fileno(), over))
                began_at = time.monotonic()
                await crowd.shop(self._settings.deadline_seconds)
                seconds = time.monotonic() - began_at
                over.set()
                await serving
        self.report = await self._count(seconds)
        return self.report

    async def postings(self, *, settled: bool = False) -> Sequence[Posting]:
        """Ask the bank what it did for this lane; ``settled`` waits for what is still under way there."""
        answer = await call(self._bank, "GET", f"/{'settled' if settled else 'ledger'}/{self.lane}")
        return msgspec.json.decode(answer.body, type=list[Posting])

    def progress(self, postings: Sequence[Posting]) -> LaneReport:
        """Return what is known so far."""
        return self.report or LaneReport(
            lane=self.lane,
            orders=self._settings.orders,
            tally=self.tally,
            postings=postings,
            kills=self.kills,
            notes=read_journal(self._journal),
        )

    def _customers(self) -> Sequence[Customer]:
        settings = self._settings
        return [Customer(number, self._seed, settings.drop) for number in range(1, settings.orders + 1)]

    @property
    def _journal(self) -> Path:
        return self._folder / "journal.jsonl"

    async def _serve(self, descriptor: int, over: asyncio.Event) -> None:
        """Start the shop, kill it, start it again; after the last kill let it live until the customers are done."""
        shop = ShopSettings(
            lane=self.lane,
            bank_host=self._bank.host,
            bank_port=self._bank.port,
            folder=str(self._folder),
            mode=self._settings.declared_mode,
            attempts=self._settings.kills + 2,
        )
        await live_and_die(
            ServeSettings(descriptor, shop=shop),
            self._folder / "log.txt",
            [self._settings.kill_after_seconds] * self._settings.kills,
            over,
            lambda: self.kills.append(time.monotonic()),
        )

    async def _count(self, seconds: float) -> LaneReport:
        return LaneReport(
            lane=self.lane,
            orders=self._settings.orders,
            tally=self.tally,
            postings=await self.postings(settled=True),
            kills=self.kills,
            seconds=seconds,
            notes=read_journal(self._journal),
            states=await asyncio.to_thread(states_in, str(self._folder)) if self.lane is Lane.RETRYSAFE else {},
        )
