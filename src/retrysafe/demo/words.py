"""What the demo says around its table: what is about to happen, what it meant, and what to type next."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

from retrysafe.demo.lanes import Lane
from retrysafe.demo.report import LaneReport
from retrysafe.demo.settings import DemoSettings
from retrysafe.demo.timeline import Story

_WIDTH = 96
_SHOWN_PROBLEMS = 5


def introduction(settings: DemoSettings, seed: int) -> str:
    """Say what is about to happen."""
    bank = "ignores keys, as some do" if settings.keyless_bank else "honours keys: same key, same charge"
    lanes = "\n".join(f"  {lane.caption:<18}{lane.does}" for lane in Lane)
    facts = (
        f"customers  lose {settings.drop:.0%} of first answers, after the work was done, and retry with the same key",
        f"servers    get kill -9 {settings.kill_after_seconds:g} s after each start, {settings.kills} times a lane",
        f"bank       lives in its own process, counts every charge, and {bank}",
        "its keys   are new for each call in A and B, and made from the operation id in C",
        f'mode       of POST /orders in C is declared "{settings.declared_mode}"; the seed is {seed}',
    )
    head = f"{settings.orders} orders in each of three lanes, with the same shop. One order should be one charge."
    return "\n".join([head, "", lanes, "", *(f"  {fact}" for fact in facts), ""])


def verdict(report: LaneReport, broken: Sequence[str], settings: DemoSettings) -> str:
    """Say whether the retrysafe lane kept its promise, and what it leaned on to keep it."""
    if broken:
        return _differs(broken, settings)
    if settings.declared_mode == "once":
        return _once(report)
    return _again(report)


def _differs(broken: Sequence[str], settings: DemoSettings) -> str:
    lines = ["Lane C differs from its orders:", *(f"  - {problem}" for problem in broken[:_SHOWN_PROBLEMS])]
    if len(broken) > _SHOWN_PROBLEMS:
        lines.append(f"  … and {len(broken) - _SHOWN_PROBLEMS} more")
    if settings.keyless_bank and settings.declared_mode == "again":
        lines.append(
            _paragraph(
                'Mode "again" declares that the operation may be repeated. At a bank that ignores keys that is not '
                'true, and no checkpoint can make it true: declare "once".'
            )
        )
    return "\n".join(lines)


def _again(report: LaneReport) -> str:
    head = f"Lane C: {report.orders} orders, {report.charges} charges. Each order exactly once, none stuck."
    times = report.recognised
    if not times:
        return head
    why = _paragraph(
        f"{_times(times)} the bank was asked again for a charge that it had made, because a kill came after the "
        "call and before the checkpoint had the outcome. No server that starts afterwards can know whether the money "
        "moved. So it asks with the same key, made from the operation id, and the bank answers with the charge it has."
    )
    otherwise = _paragraph(
        f"That part is the bank's. At one that ignores keys, each of these calls ({times}) would be a charge too many. "
        'There mode "once" is the honest declaration: what a kill interrupts is parked for a person, never guessed.'
    )
    return f"{head}\n{why}\n{otherwise}"


def _once(report: LaneReport) -> str:
    charges, parked = report.charges, report.parked
    head = f"Lane C: {report.orders} orders, {charges} charges. No order twice, none stuck, {parked} parked."
    if not parked:
        return head
    charged = parked - report.never_charged
    why = _paragraph(
        "A kill interrupted what is parked now. Whether the bank had charged it is not to be known from here, so "
        "retrysafe does not guess: it parks the operation and tells the customer 409 outcome-unknown."
    )
    otherwise = _paragraph(
        f"The bank's own book, which the shop cannot see, says: {charged} of the {parked} were charged, "
        f"{report.never_charged} not. Running all of them again would have charged {charged} twice; calling all "
        f"of them failed would have been wrong {_times(charged).lower()}. A person, or a probe, settles them."
    )
    return f"{head}\n{why}\n{otherwise}"


def _times(count: int) -> str:
    return "Once" if count == 1 else f"{count} times"


def _paragraph(text: str) -> str:
    return fill(text, _WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def story_text(story: Story) -> str:
    """Tell one order's story as text."""
    head = f"What a kill did to {story.order} in lane C (operation {story.operation}):"
    return "\n".join([head, *(f"  {moment.at:7.3f} s  {moment.text}" for moment in story.moments)])


def next_command(settings: DemoSettings, seed: int) -> str:
    """Say what to type next: the other bank, with the same customers."""
    options = [f"--orders {settings.orders}"] if settings.orders != DemoSettings.orders else []
    options.append(f"--seed {seed}")
    if settings.only == "checkout":
        return f"Again, the same orders and moods:  {_typed(settings.command, ['--only checkout', *options])}"
    if settings.keyless_bank:
        return f"Next, at a bank that honours keys:  {_typed(settings.command, options)}"
    return f"Next, at a bank that ignores keys:  {_typed(settings.command, [*options, '--keyless-bank'])}"


def _typed(command: str, options: Sequence[str]) -> str:
    joined = " ".join(options)
    return f'make demo ARGS="{joined}"' if command == "make demo" else f"{command} {joined}"
