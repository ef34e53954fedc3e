"""``retrysafe store conformance``: on our stores, and on one that another package brings."""

import json
import sqlite3
from pathlib import Path

import pytest

from retrysafe.cli.store.scratch import Telling, writable
from retrysafe.protocol.model import Message, Mode
from retrysafe.runtime.clock import uuid7
from retrysafe.stores.urls import open_store
from tests.cli.conftest import Run, Shop
from tests.cli.store.conftest import Command
from tests.services.service import Service
from tests.stores.redis.tools import a_prefix


def test_a_store_is_checked_through_both_faces_whatever_was_in_it(command: Command, shop: Shop) -> None:
    """S10: the promises need it empty, so its owner must say that it is scratch."""
    shop.one_of_each()
    shop.record(shop.claim("told", mode=Mode.STEPS), messages=[Message("payments", b"paid")])
    shop.store.close()
    refused = command("store", "conformance", shop.url)
    assert (refused.returncode, refused.stdout) == (1, "")
    done = command("store", "conformance", shop.url, "--scratch", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["ok"], found["broken"], found["stopped"]) == (True, [], None)
    assert found["faces"] == ["sync", "async"]
    assert found["kept"] > 200
    assert _everything(shop.path) == []
    assert "there are lines of an audit in it" in command("store", "conformance", shop.url).stderr


def test_a_broken_promise_of_another_package_is_named_with_its_rule(command: Command) -> None:
    """A line each, with the faces that show it; the others are still checked."""
    done = command("store", "conformance", "shelf://deaf")
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    [line] = [line for line in lines if "a write of a lost claim is refused [record]" in line]
    assert line.startswith("C4")
    assert "(sync, async): AssertionError: assert Written() == Superseded()" in line
    assert lines[-1].split(" in ")[0].endswith(" promises kept through sync and async")
    assert not any("[release]" in line for line in lines)


def test_a_store_that_cannot_be_emptied_is_told_so_once(command: Command) -> None:
    """S10: every promise that follows would break for that one reason."""
    done = command("store", "conformance", "shelf://hoarder")
    assert (done.returncode, done.stderr) == (1, "")
    assert "stopped: the store can't be emptied by its own verbs (S10): a purge leaves operations" in done.stdout


def test_a_store_that_cannot_be_reached_is_said_to_be_once(command: Command) -> None:
    """D1: not once for each promise."""
    done = command("store", "conformance", "sqlite:////no/such/folder/x.db", "--scratch")
    assert done.returncode == 1
    [stopped, kept] = done.stdout.splitlines()
    assert "unable to open database file" in stopped
    assert kept.startswith("0 promises kept through no face")


def test_a_store_whose_clock_cannot_be_moved_is_not_checked_by_half(command: Command) -> None:
    done = command("store", "conformance", "shelf://fixed")
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: this store has no with_clock(wall)" in done.stderr


@pytest.mark.parametrize("command_name", ["conformance", "bench"])
def test_a_store_in_use_is_left_alone(run: Run, shop: Shop, command_name: str) -> None:
    """S10: nothing is settled, purged or taken without being told so."""
    shop.one_of_each()
    before = _everything(shop.path)
    done = run("store", command_name, shop.url)
    assert done.exit_code == 1
    assert "this store was used before: there are operations in it" in done.stderr
    assert _everything(shop.path) == before


def test_a_store_that_is_empty_just_now_may_be_in_use(run: Run, tmp_path: Path, redis: Service, nats: Service) -> None:
    """C1: its first operation would be settled under the hands of its attempt; and looking makes nothing."""
    for url in (f"sqlite:///{tmp_path}/new.db", f"{redis.url}?prefix={a_prefix()}", f"{nats.url}/tests-{uuid7()}"):
        store = open_store(url)
        if isinstance(store, Telling):
            assert not store.is_made()
        writable(url, scratch=False, emptied=True)
        if isinstance(store, Telling):
            assert not store.is_made()
        store.open()
        store.close()
        done = run("store", "conformance", url)
        assert done.exit_code == 1
        assert "this store was used before: it is empty, and a service may have it open" in done.stderr


def test_an_operation_that_the_contract_did_not_make_ends_the_run(command: Command) -> None:
    """C1: it stays as it is."""
    done = command("store", "conformance", "shelf://shared")
    assert done.returncode == 1
    assert "stopped: somebody else uses this store: operation" in done.stdout
    assert "of the namespace 'shop' is not the contract's" in done.stdout


def test_a_store_of_another_version_is_left_alone(run: Run, shop: Shop) -> None:
    _execute(shop.path, "INSERT INTO retrysafe_migration VALUES (999, 'future', 'x')")
    done = run("store", "conformance", shop.url)
    assert (done.exit_code, done.stderr[:11]) == (1, "error[E040]")


def test_settings_of_the_folder_and_of_the_environment_do_not_change_the_run(command: Command, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("raise ZeroDivisionError")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    done = command("store", "conformance", "shelf://hoarder", PYTEST_ADDOPTS="-k nothing", PYTEST_PLUGINS="no_such")
    assert "stopped: the store can't be emptied" in done.stdout, done.stderr


def test_without_pytest_it_says_what_is_missing(command: Command, tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "pytest.py").write_text("raise ModuleNotFoundError('no pytest here', name='pytest')")
    done = command("store", "conformance", "memory://", PYTHONPATH=str(tmp_path / "hidden"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install pytest" in done.stderr


def test_a_scheme_that_nobody_brings_is_misuse(run: Run) -> None:
    done = run("store", "conformance", "shelv://good")
    assert done.exit_code == 2
    assert "unknown store scheme 'shelv'" in done.stderr


def _everything(path: Path) -> list[tuple[object, ...]]:
    return _execute(path, "SELECT * FROM retrysafe_checkpoint ORDER BY operation_id")


def _execute(path: Path, statement: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute(statement).fetchall()
        connection.commit()
        return rows
    finally:
        connection.close()
