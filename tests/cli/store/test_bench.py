"""``retrysafe store bench``: it measures and leaves nothing behind. No figure is judged here."""

import json
from functools import partial

import pytest

from retrysafe.stores.base import Query
from tests.cli.conftest import Run, Shop
from tests.cli.store.conftest import Command

FEW = ("--pairs", "70", "--seconds", "5")


@pytest.mark.parametrize(("url", "faces"), [("shelf://good", ["sync", "async"]), ("shelf://async", ["async"])])
def test_a_store_of_another_package_is_measured(command: Command, url: str, faces: list[str]) -> None:
    done = command("store", "bench", url, *FEW, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert [(each["face"], each["at_once"]) for each in found["slices"]] == [
        (face, at_once) for face in faces for at_once in (1, 16, 64)
    ]
    for each in found["slices"]:
        assert each["pairs"] == 70
        assert 0 < each["p50_ms"] <= each["p99_ms"]
        assert each["pairs_per_second"] > 0
        assert each["cpu_us"] > 0
    assert 0 < found["sync_p50_ms"] <= found["sync_p99_ms"]


def test_nothing_is_left_in_a_store_that_is_told_to_be_scratch(run: Run, shop: Shop) -> None:
    """And what was there before stays."""
    there = set(shop.one_of_each().values())
    done = run("store", "bench", shop.url, *FEW, "--scratch")
    assert done.exit_code == 0, done.stderr
    assert "durability: node" in done.stdout
    assert f"fsync: in {shop.path.parent} 8 KiB" in done.stdout
    left = shop.store.query(partial(shop.store.verbs.listing, Query(limit=1000)))
    assert {met.operation_id for met in left} == there
    assert [path.name for path in shop.path.parent.iterdir() if "bench" in path.name] == []


def test_time_bounds_it_as_well(run: Run, shop: Shop) -> None:
    found = json.loads(run("store", "bench", shop.url, "--pairs", "20000", "--seconds", "0.1", "--json").stdout)
    assert all(1 <= each["pairs"] < 20_000 for each in found["slices"])
