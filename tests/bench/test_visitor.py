"""What the load checks: a server that does wrong is found out, and every application under load can be guarded."""

from collections.abc import Iterator

import pytest

from bench.apps import KINDS
from bench.children import Child
from bench.contest import Contest
from bench.load import answer_in
from bench.plan import QUICK
from bench.visitor import Checks, Server, Visitor


@pytest.fixture(scope="module")
def load() -> Iterator[Child]:
    with Child("bench.load") as child:
        child.wait_until_ready()
        yield child


@pytest.mark.parametrize("app", ["starlette", "flask", "django"])
def test_an_application_is_guarded_and_measured(app: str, load: Child) -> None:
    """The others are in the quick run."""
    checks = Checks()
    with Child(KINDS[app].server, app) as plain, Child(KINDS[app].server, app, "memory://") as guarded:
        plain.wait_until_ready()
        guarded.wait_until_ready()
        contest = Contest(
            app, Server(app, "none", plain), [Server(app, "memory", guarded)], Visitor(load, QUICK, checks)
        )
        contest.round(0, 4, ("replay", "conflict"))
    assert [row.kind for row in contest.rows] == ["fresh", "fresh", "replay", "conflict"]
    assert checks.problems == []
    assert checks.conflicts > 0


def test_what_does_not_replay_is_found_out(load: Child) -> None:
    with Child("bench.server", "bare") as child:
        child.wait_until_ready()
        checks, faults = Checks(), Server("bare", "somebody's", child, faults={})
        visitor = Visitor(load, QUICK, checks)
        visitor.fresh(faults, 2)
        visitor.replay(faults, 2)
        assert checks.problems == [], "what others do wrong fails no run"
        visitor.fresh(Server("bare", "ours", child), 2)
        visitor.replay(Server("bare", "ours", child), 2)
    assert faults.faults is not None
    assert faults.faults["fresh"] == {}
    assert faults.faults["replay"]["other bytes"] > 0
    assert faults.faults["replay"]["effects too many or too few"] > 0
    assert any("replay mark" in problem for problem in checks.problems)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nwhole",
        b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nwh\r\n3\r\nole\r\n0\r\n\r\n",
    ],
)
def test_an_answer_is_read_whole_however_it_comes(answer: bytes) -> None:
    for end in range(len(answer)):
        assert answer_in(answer[:end]) is None
    found = answer_in(answer + b"HTTP/1.1")
    assert found is not None
    head, body, rest = found
    assert head.startswith(b"http/1.1 201 ")
    assert (body, rest) == (b"whole", b"HTTP/1.1")
