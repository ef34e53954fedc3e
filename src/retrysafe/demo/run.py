"""The demo from beginning to end: start the services, play its two acts, count, explain, clean up."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO, TypeVar

from retrysafe.demo.act import Checkout
from retrysafe.demo.checkout.report import disagreements
from retrysafe.demo.checkout.words import checkout_introduction, checkout_table, checkout_verdict
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
T = TypeVar("T")

_KEPT, _BROKEN, _INTERRUPTED = 0, 1, 130


def run_demo(settings: DemoSettings, out: TextIO | None = None) -> int:
    """Run the demo and print its page.

    Args:
        settings: how large and how rough.
        out: where to print; by default standard output.

    Returns:
        The exit code. 0: the retrysafe lane charged every order as it promises, every order of the checkout is complete
        or fully undone, and none is stuck. 1: it is not so, or the demo itself could not go on. 130: interrupted.
    """
    seed = random.SystemRandom().randrange(1, 1_000_000) if settings.seed is None else settings.seed
    if os.environ.get("MAKELEVEL"):
        settings = replace(settings, command="make demo")
    screen = Screen(out, lite=settings.lite)
    began_at = time.monotonic()
    code = _KEPT
    try:
        for act in settings.acts:
            play = _play_lanes if act == "lanes" else _play_checkout
            code = max(code, play(settings, seed, screen))
    except (KeyboardInterrupt, asyncio.CancelledError):
        screen.say("Interrupted. Every process of the demo has been stopped, and its files are gone.")
        return _INTERRUPTED
    except DemoFailed as failure:
        screen.say(f"The demo could not go on: {failure}")
        return _BROKEN
    screen.say(f"\nSeed {seed}, {time.monotonic() - began_at:.0f} s. {next_command(settings, seed)}")
    return code


def _play_lanes(settings: DemoSettings, seed: int, screen: Screen) -> int:
    """Play the first act and print its page; return its exit code."""
    screen.say(introduction(settings, seed))
    with screen:
        reports = _measure(lambda folder: _race(settings, seed, folder, screen))
    return _conclude(settings, screen, reports)


def _play_checkout(settings: DemoSettings, seed: int, screen: Screen) -> int:
    """Play the second act and print its page; return its exit code."""
    screen.say(("\n" if len(settings.acts) > 1 else "") + checkout_introduction(settings, seed))
    report = _measure(lambda folder: Checkout(settings, seed, folder, screen.say).run())
    problems = disagreements(report)
    screen.say(f"\n{checkout_table(report)}\n\n{checkout_verdict(report, problems)}")
    return _BROKEN if problems else _KEPT


def _measure(play: Callable[[Path], Coroutine[Any, Any, T]]) -> T:
    """Play in a folder that is removed afterwards, whatever happens.

    Raises:
        DemoFailed: a server did not do its part; the first of the reasons if there are several.
    """
    reasons: list[DemoFailed] = []
    with TemporaryDirectory(prefix="retrysafe-demo-") as folder:
        try:
            return asyncio.run(_politely(play(Path(folder))))
        except* DemoFailed as failures:
            reasons.extend(_flat(failures))
    raise reasons[0]


async def _politely(work: Coroutine[Any, Any, T]) -> T:
    """Let SIGTERM clean up as Ctrl-C does. Only a main thread can; elsewhere the lifelines do it."""
    task = asyncio.current_task()
    if task is not None:
        with suppress(ValueError, RuntimeError, NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


def _flat(failures: BaseExceptionGroup[DemoFailed]) -> list[DemoFailed]:
    flat: list[DemoFailed] = []
    for failure in failures.exceptions:
        flat.extend(_flat(failure) if isinstance(failure, BaseExceptionGroup) else [failure])
    return flat


async def _race(settings: DemoSettings, seed: int, folder: Path, screen: Screen) -> Sequence[LaneReport]:
    """Run the three lanes side by side against one bank."""
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


def _conclude(settings: DemoSettings, screen: Screen, reports: Sequence[LaneReport]) -> int:
    """Print the page and return the exit code."""
    [report] = [report for report in reports if report.lane is Lane.RETRYSAFE]
    broken = broken_promises(report, settings.declared_mode)
    screen.print_table(reports)
    screen.say(f"\n{verdict(report, broken, settings)}")
    story = story_of_a_crash(report)
    if story is not None:
        screen.say(f"\n{story_text(story)}")
    return _BROKEN if broken else _KEPT
