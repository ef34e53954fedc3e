"""``retrysafe ops ls`` and ``retrysafe ops show``."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from retrysafe.protocol.model import Outcome
from tests.cli.conftest import BODY, Run, Shop


def _states(run: Run, shop: Shop, *options: str) -> list[str]:
    outcome = run("ops", "ls", shop.url, "--json", *options)
    assert outcome.exit_code == 0, outcome.stderr
    return ["abandoned" if row["abandoned"] else row["state"] for row in json.loads(outcome.stdout)["operations"]]


def test_operations_are_listed_newest_first_and_abandoned_ones_are_called_so(run: Run, shop: Shop) -> None:
    ids = shop.one_of_each()
    outcome = run("ops", "ls", shop.url)
    assert outcome.exit_code == 0
    rows = [line.split() for line in outcome.stdout.splitlines()[1:]]
    assert [row[1] for row in rows] == ["running", "released", "parked", "done", "abandoned"]
    assert all(ids[row[1]].startswith(row[0]) and len(row[0]) < 36 for row in rows)
    abandoned = outcome.stdout.splitlines()[-1]
    assert "PUT /orders" in abandoned
    assert "over 1 min" in abandoned
    assert "the bank did not answer" in outcome.stdout
    assert not any(line.endswith(" ") for line in outcome.stdout.splitlines())


def test_a_whole_key_is_never_shown(run: Run, shop: Shop) -> None:
    """K8."""
    shop.claim("a-very-secret-key-0123456789")
    for options in ([], ["--json"]):
        assert "secret-key" not in run("ops", "ls", shop.url, *options).output


@pytest.mark.parametrize(
    ("options", "states"),
    [
        (["--parked"], ["parked"]),
        (["--state", "parked"], ["parked"]),
        (["--state", "done", "--state", "released"], ["released", "done"]),
        (["--abandoned"], ["abandoned"]),
        (["--state", "abandoned"], ["abandoned"]),
        (["--parked", "--abandoned"], ["parked", "abandoned"]),
        (["--state", "running"], ["running", "abandoned"]),
        (["--state", "running", "--parked", "--abandoned", "--limit", "2"], ["running", "parked"]),
        (["--name", "PUT /orders"], ["abandoned"]),
        (["--name", "nothing"], []),
        (["--limit", "2"], ["running", "released"]),
    ],
)
def test_filters_add_to_each_other(run: Run, shop: Shop, options: list[str], states: list[str]) -> None:
    shop.one_of_each()
    assert _states(run, shop, *options) == states


def test_pages_follow_each_other(run: Run, shop: Shop) -> None:
    shop.one_of_each()
    seen: list[str] = []
    after: str | None = None
    while True:
        options = ["--after", after[:30]] if after else []
        page = json.loads(run("ops", "ls", shop.url, "--json", "--limit", "2", *options).stdout)
        seen += [row["operation"] for row in page["operations"]]
        after = page["after"]
        if after is None:
            break
    assert len(seen) == len(set(seen)) == 5
    assert "more: --after" in run("ops", "ls", shop.url, "--limit", "2").stdout
    assert "more: --after" not in run("ops", "ls", shop.url).stdout


def test_either_of_two_kinds_is_found_over_many_pages(run: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrysafe.cli.operations._PAGE", 2)
    shop.seconds_ago(60)
    for number in range(5):
        shop.claim(f"abandoned-{number}", lease_seconds=1)
    shop.seconds_ago(0)
    for number in range(5):
        shop.claim(f"running-{number}", lease_seconds=600)
    assert _states(run, shop, "--parked", "--abandoned") == ["abandoned"] * 5


def test_nothing_to_list_says_why(run: Run, shop: Shop) -> None:
    assert run("ops", "ls", shop.url).stdout.startswith("no operations yet")
    shop.one_of_each()
    assert run("ops", "ls", shop.url, "--name", "nothing").stdout == "no operation matches\n"
    assert json.loads(run("ops", "ls", shop.url, "--json", "--name", "nothing").stdout) == {
        "operations": [],
        "after": None,
    }


def test_names_that_a_caller_chose_cannot_drive_the_terminal(run: Run, shop: Shop) -> None:
    claim = shop.claim("evil-1", name="POST /\x1b[2J[red]x")
    shop.park(claim, "\x1b[2Jgone")
    for arguments in (["ls", shop.url], ["show", shop.url, claim.operation_id]):
        outcome = run("ops", *arguments)
        assert outcome.exit_code == 0
        assert "\x1b" not in outcome.stdout
        assert r"POST /\x1b[2J[red]x" in outcome.stdout


def test_watching_goes_on_until_it_is_interrupted(run: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.one_of_each()
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", pause)
    outcome = run("ops", "ls", shop.url, "--parked", "--watch")
    assert outcome.exit_code == 0
    assert outcome.stdout.count("the bank did not answer") == 3
    assert pauses == [2.0] * 3
    pauses.clear()
    outcome = run("ops", "ls", shop.url, "--parked", "--watch=0.5", "--json")
    assert [len(json.loads(line)["operations"]) for line in outcome.stdout.splitlines()] == [1, 1, 1]
    assert pauses == [0.5] * 3


def test_watching_outlives_a_store_that_is_away(run: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.one_of_each()
    away = shop.path.with_suffix(".away")
    looks: list[int] = []

    def pause(_: float) -> None:
        looks.append(1)
        if len(looks) == 1:
            shop.path.rename(away)
        elif len(looks) == 2:
            away.rename(shop.path)
        else:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", pause)
    outcome = run("ops", "ls", shop.url, "--parked", "--watch")
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.stdout.count("the bank did not answer") == 2
    assert outcome.stdout.count("error[E031]") == 1


def test_ctrl_c_ends_a_watch_well(shop: Shop) -> None:
    shop.one_of_each()
    command = [sys.executable, "-m", "retrysafe", "ops", "ls", shop.url, "--watch", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert errors == ""


@pytest.mark.parametrize("value", ["0", "nan", "soon", "inf"])
def test_a_pause_that_is_none_is_refused(run: Run, shop: Shop, value: str) -> None:
    outcome = run("ops", "ls", shop.url, f"--watch={value}")
    assert outcome.exit_code == 2
    assert "positive number of seconds" in outcome.stderr


def test_a_store_behind_watch_is_understood_as_a_mistake(run: Run, shop: Shop) -> None:
    assert "put --watch last" in run("ops", "ls", "--watch", shop.url).stderr


# One operation.


def _shown(run: Run, shop: Shop, operation_id: str, *options: str) -> Any:
    outcome = run("ops", "show", shop.url, operation_id, "--json", *options)
    assert outcome.exit_code == 0, outcome.stderr
    return json.loads(outcome.stdout)


def test_bodies_are_hidden_until_they_are_asked_for(run: Run, shop: Shop) -> None:
    ids = shop.one_of_each()
    hidden = run("ops", "show", shop.url, ids["done"]).stdout
    assert "outcome    201" in hidden
    assert "Location: /charges/7" in hidden
    assert '{"id": 7}' not in hidden
    assert "--body shows it" in hidden
    assert '{"id": 7}' in run("ops", "show", shop.url, ids["done"], "--body").stdout
    assert "body_base64" not in _shown(run, shop, ids["done"])["outcome"]
    assert base64.b64decode(_shown(run, shop, ids["done"], "--body")["outcome"]["body_base64"]) == BODY


def test_the_stored_request_of_a_rerun_is_shown_without_its_body(run: Run, shop: Shop) -> None:
    ids = shop.one_of_each()
    hidden = run("ops", "show", shop.url, ids["abandoned"]).stdout
    assert "request    PUT /orders/7?x=1" in hidden
    assert "sku" not in hidden
    assert '{"sku":"A"}' in run("ops", "show", shop.url, ids["abandoned"], "--body").stdout
    assert _shown(run, shop, ids["abandoned"])["request"]["target"] == "/orders/7?x=1"


def test_a_body_that_is_no_text_or_not_kept_says_so(run: Run, shop: Shop) -> None:
    binary, large, empty = shop.claim("binary"), shop.claim("large"), shop.claim("empty")
    shop.record(binary, Outcome(200, (), b"\xff\x00"))
    shop.record(large, Outcome(200, (), None))
    shop.record(empty, Outcome(204, (), b""))
    assert "2 bytes that are no text" in run("ops", "show", shop.url, binary.operation_id, "--body").stdout
    assert "is not kept" in run("ops", "show", shop.url, large.operation_id, "--body").stdout
    assert "(no body)" in run("ops", "show", shop.url, empty.operation_id).stdout
    assert _shown(run, shop, large.operation_id)["outcome"]["body_bytes"] is None


def test_a_record_of_an_unknown_format_is_named_and_the_rest_is_shown(run: Run, shop: Shop) -> None:
    """S11."""
    claim = shop.claim("future", request=b"\x7funknown")
    assert "unknown record format 7f" in run("ops", "show", shop.url, claim.operation_id).stdout
    assert "unknown record format 7f" in _shown(run, shop, claim.operation_id)["request"]["unreadable"]


def test_a_parked_operation_says_what_to_do(run: Run, shop: Shop) -> None:
    ids = shop.one_of_each()
    shown = run("ops", "show", shop.url, ids["parked"]).stdout
    assert "◆  parked: the bank did not answer" in shown
    assert "= more: retrysafe explain E022" in shown


def test_the_beginning_of_an_id_is_enough_and_so_is_what_a_list_prints(run: Run, shop: Shop) -> None:
    ids = shop.one_of_each()
    short = next(line.split()[0] for line in run("ops", "ls", shop.url, "--parked").stdout.splitlines()[1:])
    assert _shown(run, shop, short)["operation"] == ids["parked"]
    assert _shown(run, shop, f" {short.upper()}…")["operation"] == ids["parked"]


def test_an_ambiguous_beginning_lists_its_candidates(run: Run, shop: Shop) -> None:
    one, two = ("01900000-0000-7000-8000-000000000aa1", "01900000-0000-7000-8000-000000000aa2")
    shop.claim("one", attempt_id=one)
    shop.claim("two", attempt_id=two)
    outcome = run("ops", "show", shop.url, "0190")
    assert outcome.exit_code == 2
    assert "2 operations have an id that begins with '0190'" in outcome.stderr
    assert one in outcome.stderr
    assert two in outcome.stderr


def test_many_candidates_are_not_counted_to_the_last(run: Run, shop: Shop) -> None:
    for number in range(8):
        shop.claim(f"key-{number}")
    assert "at least 6 operations" in run("ops", "show", shop.url, "0").stderr


def test_an_unknown_id_names_the_nearest(run: Run, shop: Shop) -> None:
    shop.claim("one", attempt_id="01900000-0000-7000-8000-000000000aa1")
    outcome = run("ops", "show", shop.url, "01900000-0000-7000-8000-000000000ab1")
    assert outcome.exit_code == 2
    assert "did you mean" in outcome.stderr
    assert "01900000-0000-7000" in outcome.stderr
    outcome = run("ops", "show", shop.url, "zzzz")
    assert outcome.exit_code == 2
    assert "did you mean" not in outcome.stderr
    assert run("ops", "show", shop.url, "").exit_code == 2


def test_show_needs_an_operation(run: Run, shop: Shop) -> None:
    assert "which operation?" in run("ops", "show", shop.url).stderr
    assert run("ops", "show").exit_code == 2
    assert "which store?" in run("ops", "show", "0190").stderr


def test_a_terminal_gets_a_table_that_fits(shop: Shop) -> None:
    """One line for each operation, however narrow the terminal is."""
    pty = pytest.importorskip("pty")
    shop.one_of_each()
    for width in (70, 100, 160):
        parent, child = pty.openpty()
        command = [sys.executable, "-m", "retrysafe", "ops", "ls", shop.url]
        subprocess.run(
            command,
            stdout=child,
            check=True,
            env={**os.environ, "COLUMNS": str(width), "LINES": "40", "TERM": "dumb"},
            timeout=30,
        )
        os.close(child)
        drawn = b""
        with os.fdopen(parent, "rb", buffering=0) as terminal:
            try:
                while chunk := terminal.read(65536):
                    drawn += chunk
            except OSError:
                pass  # the other side is closed
        lines = drawn.decode().splitlines()
        assert max(map(len, lines)) <= width
        assert len([line for line in lines if line.startswith("0")]) == 5
        assert ("no room for" in drawn.decode()) is (width < 160)
