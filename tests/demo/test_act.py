"""A whole checkout: processes, sockets, signals. Small, so that it takes seconds."""

import io
import re
from pathlib import Path

import pytest

from retrysafe.demo.run import run_demo
from retrysafe.demo.settings import DemoSettings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.timeout(180)
def test_every_order_is_complete_or_fully_undone_whatever_is_killed_and_fails(folder: Path) -> None:
    """R4, R6, R7, I4, I6: money and stock agree to the cent and to the piece."""
    out = io.StringIO()
    settings = DemoSettings(
        only="checkout", checkouts=20, checkout_kills=2, seed=7, lite=True, deadline_seconds=75, command="demo"
    )
    code = run_demo(settings, out)
    page = out.getvalue()
    assert code == 0, page
    figures = dict(re.findall(r"^(\S.*?)  +(\S.*)$", page, re.MULTILINE))
    assert int(figures["complete"]) + int(figures["undone"]) == int(figures["orders"]) == 20
    assert int(figures["kill -9 survived"]) > 0
    assert int(figures["repeats absorbed by child keys"]) > 0
    assert int(figures["effects undone"]) >= 2, "two customers are in a hurry"
    assert (figures["parked for a person"], figures["stuck"]) == ("0", "0")
    assert "--only checkout --seed 7" in page
    assert list(folder.iterdir()) == [], "the demo removes its files"
