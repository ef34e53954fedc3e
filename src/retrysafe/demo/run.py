"""The demo from beginning to end: start the bank, run three lanes, count, explain, clean up."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

from retrysafe.demo.lanes import Lane
from retrysafe.demo.process import DemoFailed, Server, Socket
from retrysafe.demo.report import LaneReport, broken_promises
from retrysafe.demo.screen import Screen
from retrysafe.demo.serve import BankSettings, ServeSettings
from retrysafe.demo.settings import DemoSettings
from retrysafe.demo.timeline import story_of_a_crash
from retrysafe.demo.trial import Trial
from retrysafe.demo.words import introduction, next_command, story_text, verdict

_LOOK_SECONDS = 0.2
_KEPT, _BROKEN, _INTERRUPTED = 0, 1, 130


def run_demo(settings: DemoSettings, out: TextIO | None = None) -> int:
    """Run the demo and print its page.

    Args:
        settings: how large and how rough.
        out: where to print; by default standard output.

    Returns:
        The exit code. 0: the retrysafe lane charged every order as it promises and none is stuck. 1: it did not, or
        the demo itself could not go on. 130: it was interrupted.
    """
    seed = random.SystemRandom().randrange(1, 1_000_000) if settings.seed is None else settings.seed
    if os.environ.get("MAKELEVEL"):
        settings = replace(settings, command="make demo")
    screen = Screen(out, lite=settings.lite)
    screen.say(introduction(settings, seed))
    began_at = time.monotonic()
    try:
        reports = _measure(settings, seed, screen)
    except (KeyboardInterrupt, asyncio.CancelledError):
        screen.say("Interrupted. Every process of the demo has been stopped, and its files are gone.")
        return _INTERRUPTED
    except DemoFailed as failure:
        screen.say(f"The demo could not go on: {failure}")
        return _BROKEN
    return _conclude(settings, seed, screen, reports, time.monotonic() - began_at)


def _measure(settings: DemoSettings, seed: int, screen: Screen) -> Sequence[LaneReport]:
    """Run the lanes in a folder that is removed afterwards, whatever happens.

    Raises:
        DemoFailed: a server did not do its part; the first of the reasons if there are several.
    """
    reasons: list[DemoFailed] = []
    reports: Sequence[LaneReport] = ()
    with TemporaryDirectory(prefix="retrysafe-demo-") as folder, screen:
        try:
            reports = asyncio.run(_race(settings, seed, Path(folder), screen))
        except* DemoFailed as failures:
            reasons.extend(_flat(failures))
    if reasons:
        raise reasons[0]
    return reports


def _flat(failures: BaseExceptionGroup[DemoFailed]) -> list[DemoFailed]:
    flat: list[DemoFailed] = []
    for failure in failures.exceptions:
        flat.extend(_flat(failure) if isinstance(failure, BaseExceptionGroup) else [failure])
    return flat


async def _race(settings: DemoSettings, seed: int, folder: Path, screen: Screen) -> Sequence[LaneReport]:
    """Run the three lanes side by side against one bank."""
    _stop_politely_on_sigterm()
    with Socket() as desk:
        how = BankSettings(seed, settings.bank_seconds, honours_keys=not settings.keyless_bank)
        bank = await Server.start(ServeSettings(desk.listening.fileno(), bank=how), folder / "bank.txt")
        try:
            trials: list[Trial] = []
            for lane in Lane:
                (folder / lane).mkdir()
                trials.append(Trial(lane, settings, seed, desk.address, folder / lane))
            async with asyncio.TaskGroup() as group:
                watched = group.create_task(bank.ended())
                running = [group.create_task(trial.run()) for trial in trials]
                await _watch(trials, running, screen)
                watched.cancel()
            return [task.result() for task in running]
        finally:
            await bank.stop()


async def _watch(trials: Sequence[Trial], running: Sequence[asyncio.Task[LaneReport]], screen: Screen) -> None:
    """Show how far the lanes are, until all have ended."""
    pending: set[asyncio.Task[LaneReport]] = set(running)
    while pending:
        done, pending = await asyncio.wait(pending, timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if screen.is_live:
            screen.show([trial.progress(await trial.postings()) for trial in trials])
            continue
        for report in sorted((task.result() for task in done), key=lambda report: report.lane):
            screen.say(f"  {report.lane.caption:<16}  {report.charges} charges in {report.seconds:.1f} s")


def _conclude(settings: DemoSettings, seed: int, screen: Screen, reports: Sequence[LaneReport], seconds: float) -> int:
    """Print the page and return the exit code."""
    [report] = [report for report in reports if report.lane is Lane.RETRYSAFE]
    broken = broken_promises(report, settings.declared_mode)
    screen.print_table(reports)
    screen.say(f"\n{verdict(report, broken, settings)}")
    story = story_of_a_crash(report)
    if story is not None:
        screen.say(f"\n{story_text(story)}")
    screen.say(f"\nSeed {seed}, {seconds:.0f} s. {next_command(settings, seed)}")
    return _BROKEN if broken else _KEPT


def _stop_politely_on_sigterm() -> None:
    """Let SIGTERM clean up as Ctrl-C does. Only a main thread can; elsewhere the lifelines do it."""
    task = asyncio.current_task()
    if task is not None:
        with suppress(ValueError, RuntimeError, NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
