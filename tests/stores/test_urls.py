"""Stores by URL."""

import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from retrysafe.errors import ConfigurationError
from retrysafe.stores.base import Durability
from retrysafe.stores.memory import MemoryStore
from retrysafe.stores.sqlite import SQLiteStore
from retrysafe.stores.urls import open_store, read_seconds


def problems_of(url: str) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as refused:
        open_store(url)
    return refused.value.problems


def path_of(url: str) -> str:
    store = open_store(url)
    assert isinstance(store, SQLiteStore)
    return store.path


def test_a_memory_url_makes_another_store_each_time() -> None:
    first, second = open_store("memory://"), open_store("MEMORY://")
    assert isinstance(first, MemoryStore)
    assert first is not second


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///orders.db", Path("orders.db").absolute()),
        ("sqlite:///data/orders.db", Path("data/orders.db").absolute()),
        ("sqlite:////srv/orders.db", "/srv/orders.db"),
        ("sqlite:////srv/my%20shop/orders%3F.db", "/srv/my shop/orders?.db"),
        ("SQLite:////srv/orders.db?busy_timeout=2s", "/srv/orders.db"),
    ],
)
def test_a_path_is_relative_behind_three_slashes_and_absolute_behind_four(url: str, path: object) -> None:
    assert path_of(url) == str(path)


def test_odd_paths_are_taken_literally(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/a%20%3F%23%25%26.db")
    store.open()
    store.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a ?#%&.db"]


def test_options_reach_the_store(tmp_path: Path) -> None:
    """D3: without synchronous writes a store survives its process, not a loss of power."""
    store = open_store(f"sqlite:///{tmp_path}/a.db?synchronous=normal&busy_timeout=1500ms&migrate=false")
    assert isinstance(store, SQLiteStore)
    settings = store._machinery._settings
    assert (settings.synchronous, settings.busy_seconds, settings.migrate) == ("normal", 1.5, False)
    assert store.traits.durability is Durability.PROCESS
    assert open_store("sqlite:///a.db").traits.durability is Durability.NODE


@pytest.mark.parametrize(("text", "seconds"), [("250ms", 0.25), ("5s", 5), ("1.5m", 90), ("1h", 3600)])
def test_durations_have_units(text: str, seconds: float) -> None:
    assert read_seconds(text) == seconds


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("sqlite://orders.db", "write sqlite:///orders.db"),
        ("sqlite:///", "the path is missing"),
        ("sqlite://", "the path is missing"),
        ("sqlite:///:memory:", "write memory://"),
        ("sqlite:///file:orders.db", "write memory://"),
        ("sqlite:///a#b.db", "without a #"),
        ("sqlite:///a.db?synchronous=off", "write full or normal"),
        ("sqlite:///a.db?busy_timeout=5", "a number and its unit"),
        ("sqlite:///a.db?migrate=maybe", "write true or false"),
        ("sqlite:///a.db?migrate=true&migrate=false", "given twice"),
        ("sqlite:///a.db?busy_timeot=5s", "did you mean 'busy_timeout'?"),
        ("sqlite:///a.db?journal=wal", "known are busy_timeout, migrate, synchronous"),
        ("memory://shared", "write memory://"),
        ("memory://?size=5", "write memory://"),
        ("sqlit:///a.db", "did you mean 'sqlite'?"),
        ("bolt://a", "known are mariadb, memory, "),
        ("orders.db", "begins with its scheme"),
        ("", "begins with its scheme"),
    ],
)
def test_what_is_wrong_is_said_with_its_fix(url: str, hint: str) -> None:
    [problem] = problems_of(url)
    assert hint in problem


def test_all_problems_are_said_at_once() -> None:
    assert len(problems_of("sqlite://a.db?synchronous=off&busy_timeout=5&nothing=1")) == 4


def test_a_password_is_not_repeated() -> None:
    """K8: a foreign store's URL may hold one."""
    [problem] = problems_of("bolt://alice:hunter2@db/shop")
    assert "hunter" not in problem


class TestOtherPackages:
    @pytest.fixture(autouse=True)
    def installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        group = "retrysafe.stores"
        entries = EntryPoints(
            [
                EntryPoint("mine", "tests.stores.test_urls:mine", group),
                EntryPoint("broken", "tests.stores.nowhere:from_url", group),
                EntryPoint("nameless", "tests.stores.test_urls:nothing", group),
            ]
        )
        monkeypatch.setattr("importlib.metadata.entry_points", lambda *, group: entries.select(group=group))

    def test_a_store_of_another_package_is_found_by_its_scheme(self) -> None:
        store = open_store("mine://anything")
        assert isinstance(store, MemoryStore)

    @pytest.mark.parametrize("scheme", ["broken", "nameless"])
    def test_one_that_cannot_be_loaded_says_why(self, scheme: str) -> None:
        [problem] = problems_of(f"{scheme}://anything")
        assert problem.startswith(f"the store for {scheme}:// can't be loaded from tests.stores.")

    def test_its_name_is_a_hint(self) -> None:
        [problem] = problems_of("mina://anything")
        assert "did you mean 'mine'?" in problem


def mine(url: str) -> MemoryStore:
    return MemoryStore()


def test_finding_our_own_stores_reads_no_package_lists() -> None:
    """Start-up stays quick: neither is imported before it is wanted."""
    program = (
        "import sys; from retrysafe.stores.urls import open_store; assert 'sqlite3' not in sys.modules; "
        "open_store('memory://'); assert 'sqlite3' not in sys.modules; open_store('sqlite:///a.db'); "
        "assert 'importlib.metadata' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:pa?hunter2@host/0",
        "redis://u:pa?hunter=x@host/0",
        "redis://u:pa?hunter&x@host/0",
        "mysql://u:pa?x=1&hunter2@host/db",
        "nats://u:pa?hunter2@host",
    ],
)
def test_no_part_of_a_password_is_repeated(url: str) -> None:
    """K8: not even of one that was not escaped."""
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert "hunter" not in str(caught.value)
    assert "hunter" not in repr(caught.value.problems)
