"""The store contract on any store, run by pytest in this process, and what it found."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from tempfile import TemporaryDirectory
from typing import Any

import click

from retrysafe.cli.complaints import Complaint
from retrysafe.cli.opening import shown
from retrysafe.cli.store.findings import Findings
from retrysafe.cli.store.scratch import writable
from retrysafe.cli.words import counted, duration, printable
from retrysafe.stores.urls import Clocked

# By name: it is part of the tools for tests, which nothing in the package imports.
_CONTRACT = "retrysafe.testing.conformance"
_TAIL_LINES = 20


def checked(store_url: str, *, scratch: bool) -> Findings:
    """Run the contract on a store.

    Raises:
        Complaint: pytest is missing, the store may not be used, or days can't pass in it.
    """
    try:
        from retrysafe.cli.store.watching import Watch  # noqa: PLC0415 - pytest is no part of the command line
    except ImportError as missing:
        raise Complaint(
            "the contract of stores is run by pytest, which is missing",
            facts=[str(missing)],
            fixes=["pip install pytest"],
        ) from missing
    if not isinstance(writable(store_url, scratch=scratch, emptied=True), Clocked):
        raise Complaint(
            "this store has no with_clock(wall), and its promises about days can't be waited for",
            where=shown(store_url),
            fixes=["give it one: retrysafe.stores.urls.Clocked says what it returns"],
        )
    watch = Watch(store_url, scratch=scratch)
    begun = time.monotonic()
    printed = _run(watch)
    found = watch.findings(time.monotonic() - begun)
    if not found.promises and found.stopped is None:
        raise Complaint("the contract did not run", facts=printed.splitlines()[-_TAIL_LINES:])
    return found


def report(found: Findings) -> Iterator[str]:
    """Write a line for each broken promise, and one in the end."""
    width = max((len(", ".join(each.rules)) for each in found.broken), default=0)
    for each in found.broken:
        rules = click.style(f"{', '.join(each.rules):<{width}}", fg="red", bold=True)
        yield f"{rules}  {each.promise} ({', '.join(each.faces)}): {printable(each.summary)}"
    if found.broken:
        yield ""
    if found.stopped is not None:
        yield f"stopped: {printable(found.stopped)}"
    kept = f"{counted(found.kept, 'promise')} kept through {' and '.join(found.faces) or 'no face'}"
    broken = f"{counted(len(found.broken), 'promise')} broken, " if found.broken else ""
    yield f"{broken}{kept} in {duration(found.seconds)}"


def _run(watch: object) -> str:
    """Let pytest run the contract, and nothing of the folder that it is called in; return what it printed."""
    import pytest  # noqa: PLC0415 - it is there, or watching would not be

    with (
        TemporaryDirectory() as folder,
        _environment(),
        redirect_stdout(printed := io.StringIO()),
        redirect_stderr(printed),
    ):
        options = ["-c", os.devnull, "--rootdir", folder, "--noconftest", "--capture=sys", "--tb=short"]
        pytest.main([*options, "-p", "no:cacheprovider", "--pyargs", _CONTRACT], plugins=[watch])
    return printed.getvalue()


@contextmanager
def _environment() -> Generator[None]:
    """Keep what a person's environment tells pytest, plugins and options, out of the run."""
    ours: dict[str, Any] = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "", "PYTEST_PLUGINS": ""}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
