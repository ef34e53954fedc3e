"""Child processes of tests of stores: modules with functions that print JSON, started by name."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def say(what: object) -> None:
    """Tell the test something, from within a child."""
    print(json.dumps(what), flush=True)


def wait_for_start() -> None:
    """Wait, within a child, until the test says so."""
    say("ready")
    sys.stdin.readline()


class Child:
    """A running process."""

    def __init__(self, module: str, what: str, *args: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, what, *map(str, args)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hear(self) -> Any:
        """Return what it says next."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the child said nothing and ended with {self.process.wait()}"
        return json.loads(line)

    def start(self) -> None:
        """Let it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()


@contextmanager
def child(module: str, what: str, *args: object) -> Iterator[Child]:
    """Run a function of a module in a process, which is killed at the end if it still runs."""
    started = Child(module, what, *args)
    with started.process:
        try:
            yield started
        finally:
            started.process.kill()


def together(module: str, number: int, what: str, *args: object) -> list[Any]:
    """Start processes that begin at the same moment, and return what each said last."""
    with ExitStack() as stack:
        children = [stack.enter_context(child(module, what, *args)) for _ in range(number)]
        for one in children:
            assert one.hear() == "ready"
        for one in children:
            one.start()
        return [one.hear() for one in children]
