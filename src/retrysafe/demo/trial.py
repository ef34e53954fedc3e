"""One lane's run: a server that is killed again and again, its customers, and what there is to count afterwards."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from retrysafe.demo.bank import Posting
from retrysafe.demo.client import Crowd, Tally
from retrysafe.demo.journal import read_journal
from retrysafe.demo.lanes import Lane
from retrysafe.demo.process import Server, Socket
from retrysafe.demo.report import LaneReport
from retrysafe.demo.serve import ServeSettings
from retrysafe.demo.settings import DemoSettings
from retrysafe.demo.shop import ShopSettings, checkpoints_url
from retrysafe.demo.wire import Address, call
from retrysafe.protocol.states import State
from retrysafe.stores.base import Query
from retrysafe.stores.urls import open_store

_PAGE = 1000


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
            crowd = Crowd(self._settings, self._seed, shop.address, self.tally)
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
        while not over.is_set():
            last = len(self.kills) == self._settings.kills
            server = await Server.start(ServeSettings(descriptor, shop=shop), self._folder / "log.txt")
            try:
                await _first(over, server, None if last else self._settings.kill_after_seconds)
                if over.is_set():
                    await server.stop()
                else:
                    self.kills.append(time.monotonic())
            finally:
                await server.kill()

    async def _count(self, seconds: float) -> LaneReport:
        return LaneReport(
            lane=self.lane,
            orders=self._settings.orders,
            tally=self.tally,
            postings=await self.postings(settled=True),
            kills=self.kills,
            seconds=seconds,
            notes=read_journal(self._journal),
            states=await asyncio.to_thread(_states, str(self._folder)) if self.lane is Lane.RETRYSAFE else {},
        )


async def _first(over: asyncio.Event, server: Server, seconds: float | None) -> None:
    """Return when the customers are done or the time is up, whichever comes first.

    Raises:
        DemoFailed: the server ended by itself before that.
    """
    waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(over.wait()), asyncio.ensure_future(server.ended())]
    try:
        done, _ = await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in done:
            wait.result()
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


def _states(folder: str) -> Mapping[State, int]:
    """Count the checkpoints in each state."""
    store = open_store(checkpoints_url(folder))
    states = Counter[State]()
    after: str | None = None
    try:
        store.open()
        while page := store.query(partial(store.verbs.listing, Query(after=after, limit=_PAGE))):
            states.update(checkpoint.state for checkpoint in page)
            after = page[-1].operation_id
    finally:
        store.close()
    return states
