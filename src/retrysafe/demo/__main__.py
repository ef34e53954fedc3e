"""``python -m retrysafe.demo``: the demo where there is no command line of ours, on the standard library alone."""

from __future__ import annotations

import argparse
import sys

from retrysafe.demo.run import run_demo
from retrysafe.demo.settings import DemoSettings
from retrysafe.errors import ConfigurationError


def main(arguments: list[str] | None = None) -> int:
    """Read the options, run the demo, and return its exit code; 2 when an option cannot work."""
    defaults = DemoSettings()
    parser = argparse.ArgumentParser(prog=defaults.command, description="kill -9 a shop, again and again, in two acts")
    parser.add_argument("--orders", type=int, default=defaults.orders, help="orders a lane (%(default)s)")
    parser.add_argument("--seed", type=int, help="repeat which answers are lost; random by default")
    parser.add_argument("--only", choices=["lanes", "checkout"], help="one of the two acts")
    parser.add_argument("--lite", action="store_true", help="plain text, no live display")
    parser.add_argument("--keyless-bank", action="store_true", help="the bank ignores keys; lane C declares mode once")
    parser.add_argument("--mode", choices=["again", "once"], help="what lane C declares, right or wrong")
    parser.add_argument("--drop", type=float, default=defaults.drop, help="part of first answers lost (%(default)s)")
    parser.add_argument("--parallel", type=int, default=defaults.parallel, help="requests at once (%(default)s)")
    parser.add_argument("--kills", type=int, default=defaults.kills, help="kill -9 for each server (%(default)s)")
    parser.add_argument(
        "--kill-after",
        type=float,
        default=defaults.kill_after_seconds,
        metavar="SECONDS",
        dest="kill_after_seconds",
        help="how long a server lives after each start (%(default)s)",
    )
    try:
        return run_demo(DemoSettings(**vars(parser.parse_args(arguments))))
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
