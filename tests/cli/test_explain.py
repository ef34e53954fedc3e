"""``retrysafe explain``."""

import json

import pytest

from retrysafe.http.codes import ALL
from tests.cli.conftest import Run


@pytest.mark.parametrize("code", ["E021", "e21", "21", "key-reused", "KEY-REUSED"])
def test_a_number_or_a_code_is_explained(run: Run, code: str) -> None:
    outcome = run("explain", code)
    assert outcome.exit_code == 0
    assert outcome.stdout.startswith("E021 key-reused · 422 Idempotency key reused\n")
    for part in ("  what  ", "  why   ", "  fix   ", "urn:retrysafe:problem:key-reused"):
        assert part in outcome.stdout


def test_a_code_that_several_errors_share_shows_all_of_them(run: Run) -> None:
    outcome = run("explain", "store-unavailable")
    assert [line.split()[0] for line in outcome.stdout.splitlines() if line.startswith("E0")] == [
        "E031",
        "E040",
        "E041",
    ]


def test_without_a_code_all_are_listed_one_on_a_line(run: Run) -> None:
    lines = run("explain").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [row.number for row in ALL]


@pytest.mark.parametrize(("code", "near"), [("key-resed", "E021"), ("E0210", "E021"), ("in-progres", "E020")])
def test_an_unknown_code_names_the_nearest(run: Run, code: str, near: str) -> None:
    outcome = run("explain", code)
    assert outcome.exit_code == 2
    assert "did you mean" in outcome.stderr
    assert near in outcome.stderr


def test_nonsense_has_no_nearest(run: Run) -> None:
    outcome = run("explain", "zzzzzzzz")
    assert outcome.exit_code == 2
    assert "did you mean" not in outcome.stderr


def test_programs_get_every_member(run: Run) -> None:
    [row] = json.loads(run("explain", "E020", "--json").stdout)["codes"]
    assert row["code"] == "in-progress"
    assert row["retryable"] is True
    assert row["new_key_safe"] is False
    assert len(json.loads(run("explain", "--json").stdout)["codes"]) == len(ALL)


def test_every_page_says_whether_a_retry_or_a_new_key_is_wise(run: Run) -> None:
    for row in ALL:
        page = run("explain", row.number).stdout
        assert ("a new key is not safe" in page) is (row.new_key_safe is False)
        assert ("worth a retry" in page) is row.retryable
