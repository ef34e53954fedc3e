"""``retrysafe demo``: a shop that is killed again and again."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import click

from retrysafe.cli.complaints import Complaint


@click.command(short_help="Kill a shop again and again, and count its charges.")
@click.option("--orders", type=click.IntRange(1, 100_000), help="Orders in each lane.")
@click.option("--seed", type=int, help="Repeat a run: it prints its seed.")
@click.option("--only", type=click.Choice(["lanes", "checkout"]), help="One of the two acts.")
@click.option("--lite", is_flag=True, help="A short run, for slow machines and pipelines.")
@click.option("--keyless-bank", is_flag=True, help="A bank that takes no keys of its own.")
@click.pass_context
def demo(
    ctx: click.Context,
    *,
    orders: int | None,
    seed: int | None,
    only: Literal["lanes", "checkout"] | None,
    lite: bool,
    keyless_bank: bool,
) -> None:
    """Kill a shop again and again, and count what its customers were charged.

    The same orders go through three lanes: without protection, with the usual cache, and with retrysafe. Then a
    checkout of steps, at a bank and a warehouse that misbehave, is finished or rolled back. Exits 1 if the lane with
    retrysafe charged anything but its orders, or an order of the checkout is neither complete nor fully undone.
    """
    try:
        from retrysafe.demo.run import run_demo  # noqa: PLC0415 - it needs uvicorn, an extra
        from retrysafe.demo.settings import DemoSettings  # noqa: PLC0415 - as above
    except ImportError as missing:
        raise Complaint(str(missing), fixes=["pip install 'retrysafe[demo]'"]) from missing
    if only == "checkout" and keyless_bank:
        message = "the checkout needs a bank that honours keys: leave --keyless-bank out"
        raise click.UsageError(message)
    settings = DemoSettings(only=only, seed=seed, lite=lite, keyless_bank=keyless_bank, command="retrysafe demo")
    ctx.exit(run_demo(settings if orders is None else replace(settings, orders=orders)))
