"""The guard: its configuration, its routes, and the engine of each process."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from retrysafe import SHARED, ConfigurationError, Mode, Policy, RetrySafe, StoreUnavailable
from retrysafe.adapters.asgi import RetrySafeMiddleware
from retrysafe.runtime import events, routes
from retrysafe.stores.memory import MemoryStore
from retrysafe.testing.faults import FaultyStore, fail
from tests.runtime.rig import Events, until
from tests.runtime.surfaces import acall, responding


def problems(make: Callable[[], object]) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        make()
    return caught.value.problems


@pytest.fixture
def guard() -> Iterator[RetrySafe]:
    guard = RetrySafe("memory://", principal=SHARED, scan=None)
    yield guard
    guard.close()


def test_everything_that_is_wrong_is_told_at_once_each_with_its_fix() -> None:
    found = problems(lambda: RetrySafe("memroy://", scan=timedelta(0), fingerprint_secrets=[b"short"]))
    assert len(found) == 4
    text = "\n".join(found)
    assert "did you mean 'memory'?" in text
    assert "scan is 0:00:00: choose a positive duration" in text
    assert "principal=SHARED" in text


def test_without_a_principal_nothing_starts_and_the_fix_is_two_lines() -> None:
    """K5."""
    (problem,) = problems(lambda: RetrySafe("memory://"))
    assert problem.count("\n") == 2
    assert "RetrySafe(..., principal=lambda request:" in problem


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({"leese": timedelta(seconds=5)}, "a policy has no field 'leese': did you mean lease?"),
        ({"atempts": 3}, "a policy has no field 'atempts': did you mean attempts?"),
        ({"frobnicate": 1}, "a policy has no field 'frobnicate': the fields are mode, lease,"),
    ],
)
def test_a_misspelt_field_of_a_policy_gets_a_hint(guard: RetrySafe, wrong: dict[str, Any], hint: str) -> None:
    (problem,) = problems(lambda: guard.protect("POST /charges", **wrong))
    assert problem.startswith(hint)


def test_every_misspelt_field_and_every_wrong_route_is_told_together(guard: RetrySafe) -> None:
    found = problems(lambda: guard.protect("/charges", "post /x", leese=1, retension=2))
    assert len(found) == 4
    assert found[0].startswith("route '/charges' is not understood: write 'POST /path'")


def test_values_that_cannot_work_together_are_told_together(guard: RetrySafe) -> None:
    found = problems(
        lambda: guard.protect(
            "POST /charges",
            mode="agian",
            lease=timedelta(seconds=0.5),
            attempts=0,
            rerun_headers=frozenset({"cookie"}),
        )
    )
    assert len(found) == 4


def test_who_looks_while_an_operation_is_declared_finds_it_afterwards(
    guard: RetrySafe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K7: else a request on another thread would leave the route unguarded for ever."""
    made = routes._route

    def looking(*args: Any) -> routes.Route:
        assert guard.route("GET", "/report") is None
        return made(*args)

    monkeypatch.setattr(routes, "_route", looking)
    guard.protect("GET /report", name="report")
    found = guard.route("GET", "/report")
    assert found is not None
    assert found.name == "report"


def test_a_compression_is_known_and_installed(guard: RetrySafe, monkeypatch: pytest.MonkeyPatch) -> None:
    """S11: told before anything is written that nobody can read."""
    guard.protect("POST /charges", compression="zstd")
    assert problems(lambda: guard.protect("POST /charges", compression="lz4")) == (
        "compression 'lz4' is unknown: use one of zlib, zstd, none",
    )
    monkeypatch.setattr("retrysafe.protocol.policy.has_zstd", lambda: False)
    assert "pip install retrysafe[zstd]" in problems(lambda: guard.protect("POST /charges", compression="zstd"))[0]


def test_a_route_declared_later_is_found_although_its_requests_were_met_before(guard: RetrySafe) -> None:
    """K7: what is remembered of routes is forgotten with each declaration."""
    assert guard.route("GET", "/health") is None
    guard.protect("GET /health", name="health")
    found = guard.route("GET", "/health")
    assert found is not None
    assert found.name == "health"
    guard.exempt("* /other")
    assert guard.route("POST", "/other") is None


def test_a_route_is_needed_and_an_exempt_one_is_checked_too(guard: RetrySafe) -> None:
    assert problems(guard.protect) == ("protect() needs at least one route such as 'POST /charges'",)
    assert problems(lambda: guard.exempt("nonsense"))[0].startswith("route 'nonsense' is not understood")


def test_the_first_route_that_covers_a_request_counts(guard: RetrySafe) -> None:
    """K7."""
    guard.exempt("* /health")
    guard.protect("POST /charges/{id}/refunds", name="refund", mode="again")
    guard.protect("PUT,PATCH /charges/*", name="change")
    guard.protect("* /charges/*", name="anything")
    routes = {
        ("POST", "/health"): None,
        ("POST", "/charges/7/refunds"): "refund",
        ("PATCH", "/charges/7"): "change",
        ("POST", "/charges/7/8/refunds"): "anything",
        ("GET", "/charges/7"): "anything",
        ("POST", "/other"): "POST /other",
        ("GET", "/other"): None,
    }
    found = {asked: guard.route(*asked) for asked in routes}
    assert {asked: guarded and guarded.name for asked, guarded in found.items()} == routes
    assert guard.policy_of("refund").mode is Mode.AGAIN
    assert guard.policy_of("unheard of") is guard.default_policy


def test_what_a_route_changes_is_changed_against_the_guards_policy_or_the_given_one() -> None:
    guard = RetrySafe("memory://", principal=SHARED, policy=Policy(mode="again", attempts=5))
    guard.protect("POST /a", attempts=2)
    guard.protect("POST /b", policy=Policy(attempts=9))
    assert (guard.policy_of("POST /a").mode, guard.policy_of("POST /a").attempts) == (Mode.AGAIN, 2)
    assert (guard.policy_of("POST /b").mode, guard.policy_of("POST /b").attempts) == (Mode.ONCE, 9)


def scans() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "retrysafe-scan"]


def test_making_a_guard_neither_connects_nor_starts_a_thread() -> None:
    before = threading.active_count()
    store = FaultyStore(MemoryStore(), fail("*"))
    RetrySafe(cast(Any, store), principal=SHARED).protect("POST /charges")
    assert threading.active_count() == before
    assert store.calls == {}


def test_many_threads_get_one_engine_and_one_scan() -> None:
    """R2."""
    before = len(scans())
    guard = RetrySafe("memory://", principal=SHARED)
    with ThreadPoolExecutor(8) as threads:
        engines = set(threads.map(lambda _: guard.engine(), range(64)))
    assert len(engines) == 1
    assert len(scans()) == before + 1
    guard.close()
    until(lambda: len(scans()) == before, "the scan has ended")


def test_a_closed_guard_may_be_used_again() -> None:
    """It has a new engine and a new scan, and the store still knows everything."""
    store = MemoryStore()
    guard = RetrySafe(cast(Any, store), principal=SHARED)
    before = len(scans())

    async def aengines() -> None:
        first, second = await asyncio.gather(guard.aengine(), guard.aengine())
        assert first is second

    engine = guard.engine()
    guard.close()
    guard.close()
    assert guard.engine() is not engine
    assert guard.engine().pepper == engine.pepper
    guard.close()
    asyncio.run(aengines())
    assert len(scans()) == before + 1
    guard.close()
    assert len(scans()) == before


def test_a_guard_whose_scan_is_left_to_others_has_none(guard: RetrySafe) -> None:
    """R2."""
    before = len(scans())
    guard.engine()
    assert len(scans()) == before


def test_a_store_that_is_down_at_first_is_tried_again() -> None:
    """D1."""
    store = FaultyStore(MemoryStore(), fail("open", call=1))
    guard = RetrySafe(cast(Any, store), principal=SHARED, scan=None)
    with pytest.raises(StoreUnavailable):
        guard.engine()
    assert guard.engine().opened
    guard.close()


def test_a_pepper_that_is_not_the_stores_is_refused() -> None:
    """K4."""
    guard = RetrySafe("memory://", principal=SHARED, pepper=b"p" * 32, scan=None)
    (problem,) = problems(guard.engine)
    assert problem.startswith("pepper is not the one this store was made with")
    (problem,) = problems(lambda: asyncio.run(guard.aengine()))
    guard.close()


def test_every_sink_gets_every_event() -> None:
    one, other = Events(), Events()
    guard = RetrySafe("memory://", principal=SHARED, sinks=[one, other])
    guard.emit(events.Unprotected("POST /charges", "no key"))
    assert one == other == [events.Unprotected("POST /charges", "no key")]


def test_a_sink_that_raises_harms_neither_the_others_nor_the_operation(caplog: pytest.LogCaptureFixture) -> None:
    """S1: the outcome is recorded and sent, and what went wrong is in the log."""
    others = Events()

    def broken(event: object) -> None:
        raise ZeroDivisionError

    guard = RetrySafe("memory://", principal=SHARED, sinks=[broken, others], scan=None)
    app = RetrySafeMiddleware(responding(partial(asyncio.sleep, 0)), guard)
    assert [asyncio.run(acall(app)).status for _ in range(2)] == [201, 201]
    assert others.kinds == ["Claimed", "Recorded", "Replayed"]
    assert caplog.messages[0] == "a sink raised over an event of the kind Claimed"
    guard.close()


FORKING = """
import os, sys, threading
from retrysafe import SHARED, RetrySafe

guard = RetrySafe(f"sqlite:///{sys.argv[1]}", principal=SHARED)
parent = guard.engine()
child = os.fork()
engine = guard.engine()
scans = sum(thread.name == "retrysafe-scan" for thread in threading.enumerate())
print(engine is parent, engine.pid == os.getpid(), engine.pepper == parent.pepper, scans, flush=True)
guard.close()
if child:
    assert os.waitpid(child, 0)[1] == 0
"""


def test_a_forked_child_gets_an_engine_and_a_scan_of_its_own(tmp_path: Path) -> None:
    """Threads and connections do not survive a fork; the store does."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING, str(tmp_path / "store.db")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert sorted(done.stdout.splitlines()) == ["False True True 1", "True True True 1"]


def test_an_application_that_stops_does_not_close_the_guard_of_another() -> None:
    """C7: two applications of one process may share a guard."""
    guard = RetrySafe("memory://", principal=SHARED, scan=None)
    guard.retain()
    guard.retain()
    engine = guard.engine()
    guard.release()
    assert guard.local_engine() is engine
    guard.release()
    assert guard.local_engine() is not engine
    guard.close()


def test_a_path_writes_no_lines_into_a_log() -> None:
    """K8."""
    guard = RetrySafe("memory://", principal=SHARED, scan=None)
    found = guard.route("POST", "/a\nError: forged")
    assert found is not None
    assert found.name == "POST /a%0AError%3A%20forged"
