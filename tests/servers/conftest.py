"""Servers, gates and cases; the log of a server belongs to the report of the test that failed on it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import cast

import pytest

from tests.servers.case import Case
from tests.servers.gates import Gates
from tests.servers.harness import Kind, Pool, Server

# What no test may leave in a log: Python's own complaints about tasks and coroutines that nobody took care of.
SMELLS = ("was never awaited", "never retrieved", "Task was destroyed", "InvalidStateError", "Unexpected ASGI message")
_LOG = pytest.StashKey[tuple[Server, int]]()


def _kinds(item: pytest.Item) -> list[Kind]:
    """The server that a test runs on."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    # Other tests have parameters called "server", too.
    return [kind for kind in parameters.values() if isinstance(kind, Kind)]


@pytest.fixture(scope="session")
def pool(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    servers = Pool(tmp_path_factory.mktemp("servers"))
    wanted = {kind for item in request.session.items for kind in _kinds(item)}
    # All at once: the later ones start while the first are already tested.
    for kind in sorted(wanted, key=list(Kind).index):
        if not kind.missing:
            servers.launch(kind)
    yield servers
    servers.stop()


@pytest.fixture(params=list(Kind), ids=str)
def server(request: pytest.FixtureRequest, pool: Pool) -> Iterator[Server]:
    """Each server in turn; ``@only(…)`` chooses some."""
    server = pool.get(cast("Kind", request.param))
    before = server.log.stat().st_size
    request.node.stash[_LOG] = server, before
    yield server
    written = server.log.read_bytes()[before:].decode("utf-8", "replace")
    assert [smell for smell in SMELLS if smell in written] == [], written


@pytest.fixture
def gates() -> Iterator[Gates]:
    gates = Gates()
    yield gates
    gates.close()


@pytest.fixture
def case(server: Server) -> Case:
    return Case(server)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the server wrote during a test that failed."""
    report = yield
    if report.failed and _LOG in item.stash:
        server, before = item.stash[_LOG]
        written = server.log.read_bytes()[before:].decode("utf-8", "replace")
        report.sections.append((f"{server.kind} wrote to {server.log}", written[-20_000:]))
    return report
