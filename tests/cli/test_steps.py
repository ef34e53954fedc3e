"""The steps of an operation, as ``retrysafe ops show`` draws them, and what recovery does next with it."""

import json
import re
from typing import Any

from retrysafe.protocol.encoding import encode_request
from retrysafe.protocol.model import Claim, Mode, Outcome
from retrysafe.protocol.steps import StepKind, StepStatus, step_key
from tests.cli.conftest import REQUEST, Run, Shop


def _shown(run: Run, shop: Shop, claim: Claim, *options: str) -> str:
    told = run("ops", "show", shop.url, claim.operation_id, *options)
    assert told.exit_code == 0, told.stderr
    return told.stdout


def _document(run: Run, shop: Shop, claim: Claim, *options: str) -> Any:
    return json.loads(_shown(run, shop, claim, "--json", *options))


def _all_kinds(shop: Shop) -> Claim:
    shop.seconds_ago(60)
    claim = shop.order()
    shop.memo(claim, "mail", 3, StepStatus.REFUSED, index=2)
    shop.memo(claim, "book", 4, kind=StepKind.LOCAL, undo="shop:unbook")
    shop.memo(claim, "undo:book", 5, kind=StepKind.UNDO)
    shop.memo(claim, "pivot", 6, kind=StepKind.PIVOT)
    shop.seconds_ago(0)
    shop.park(claim)
    return claim


def test_each_step_is_one_moment_with_its_sign_in_the_order_in_which_they_began(run: Run, shop: Shop) -> None:
    """R4."""
    shown = _shown(run, shop, _all_kinds(shop))
    signs = re.findall(r"Z  ([✓?✗↩┃])  (\S+) ", shown)
    assert signs == [("✓", "reserve"), ("?", "charge"), ("✗", "mail[2]"), ("↩", "book"), ("┃", "pivot:")]
    assert re.search(r"reserve  external  done after .* \(fence 1\)", shown)
    assert re.search(r"charge   external  begun; whether it happened is not known", shown)
    assert re.search(r"mail\[2\]  external  refused, without effect", shown)
    assert re.search(r"book     local     done, then undone", shown)


def test_child_keys_are_shown_and_what_steps_gave_is_not(run: Run, shop: Shop) -> None:
    """K8, R4."""
    claim = shop.order()
    shown = _shown(run, shop, claim)
    for name in ("reserve", "charge", "undo:charge"):
        assert step_key(claim.operation_id, (name, 0)) in shown
    assert "hold" not in shown
    assert "tea" not in shown
    document = _document(run, shop, claim)
    assert not {"result", "arguments"} & document["steps"][0].keys()
    everything = _shown(run, shop, claim, "--results")
    assert 'with  ["tea"]' in everything
    assert 'gave  {"hold":7}' in everything
    [reserve, _] = _document(run, shop, claim, "--results")["steps"]
    assert (reserve["arguments"], reserve["result"]) == (["tea"], {"hold": 7})


def test_what_a_step_gave_may_be_no_json(run: Run, shop: Shop) -> None:
    claim = shop.claim("k-1", mode=Mode.STEPS)
    shop.memo(claim, "odd", 1, value=b"\xff", arguments=b"\x1b[2J")
    assert "\x1b" not in _shown(run, shop, claim, "--results")
    [odd] = _document(run, shop, claim, "--results")["steps"]
    assert odd["result"] == {"base64": "/w=="}


def test_a_call_that_may_be_under_way_says_until_when(run: Run, shop: Shop) -> None:
    """R6, R7."""
    claim = shop.order()
    shown = _shown(run, shop, claim)
    assert "call  may be under way until" in shown
    assert "○  no call of step charge can be under way after that" in shown
    late = shop.claim("k-2", mode=Mode.STEPS)
    shop.memo(late, "charge", 1, StepStatus.INTENT)
    shown = _shown(run, shop, late)
    assert "call  can't be under way any more, since" in shown
    assert "after that" not in shown
    [charge] = _document(run, shop, late)["steps"]
    assert charge["call_until"] == charge["began_at"]


def test_an_undo_stands_beside_its_step(run: Run, shop: Shop) -> None:
    """R7."""
    claim = _all_kinds(shop)
    shown = _shown(run, shop, claim)
    assert "undo  shop:free  not called" in shown
    assert re.search(r"undo  shop:unbook  undone \d{4}-.*Z \(fence 1\)", shown)
    undos = {step["name"]: step["undo"] for step in _document(run, shop, claim)["steps"]}
    assert undos["reserve"]["status"] is None
    assert undos["book"]["status"] == "done"
    assert undos["mail"] is None


def test_programs_get_steps_with_stable_names(run: Run, shop: Shop) -> None:
    claim = shop.order()
    reserve, charge = _document(run, shop, claim)["steps"]
    assert reserve.keys() == {
        *("name", "index", "seq", "kind", "status", "fence", "child_key"),
        *("began_at", "ended_at", "call_until", "undo"),
    }
    assert reserve["undo"].keys() == {"function", "child_key", "status", "fence", "ended_at"}
    assert (charge["name"], charge["seq"], charge["kind"], charge["status"]) == ("charge", 2, "external", "intent")
    assert charge["child_key"] == step_key(claim.operation_id, ("charge", 0))


def test_a_postponed_operation_says_why_it_waits_and_for_how_long(run: Run, shop: Shop) -> None:
    """R8."""
    claim = shop.order()
    shop.postpone(claim, 120, "the operation answered 503")
    shown = _shown(run, shop, claim)
    assert "✗  attempt 1 ended without an outcome" in shown
    assert "◆  waits for its next attempt, due in 2 min: the operation answered 503" in shown
    assert "○  it is due" in shown
    document = _document(run, shop, claim)
    assert (document["phase"], document["abandoned"]) == ("retrying", True)
    assert 110 < document["due_in_seconds"] <= 120


def test_an_operation_that_is_undone_says_so_and_what_it_will_answer(run: Run, shop: Shop) -> None:
    """R7, I9."""
    claim = shop.order()
    shop.begin_undo(claim, "the operation answered 422", Outcome(422, (), b"sold out"))
    shown = _shown(run, shop, claim)
    assert "◆  attempt 1 undoes what was done: the operation answered 422" in shown
    assert "direction  back: it began to be undone" in shown
    assert "outcome    422  once it is undone" in shown
    shop.postpone(claim, 120, "a call may still be under way")
    assert "◆  waits to be undone, due in 2 min: a call may still be under way" in _shown(run, shop, claim)
    assert _document(run, shop, claim)["phase"] == "undoing"


def test_a_list_says_what_comes_next_and_when(run: Run, shop: Shop) -> None:
    """R8."""
    shop.seconds_ago(60)
    for key, mode in (("once", Mode.ONCE), ("again", Mode.AGAIN)):
        shop.claim(key, mode=mode, name=key, lease_seconds=1)
    shop.seconds_ago(0)
    waits = shop.claim("waits", mode=Mode.STEPS, name="waits", request=encode_request(REQUEST))
    shop.postpone(waits, 120, "the operation raised OSError")
    undoes = shop.claim("undoes", mode=Mode.STEPS, name="undoes")
    shop.begin_undo(undoes, "the operation answered 422")
    shop.postpone(undoes, 120, "the undo raised")
    shop.claim("runs", mode=Mode.STEPS, name="runs", lease_seconds=600)
    shown = run("ops", "ls", shop.url).stdout
    for name, coming in (("once", "park due"), ("again", "retry due"), ("waits", "retry in 2 min")):
        assert re.search(rf"{name} .*{coming}", shown)
    assert re.search(r"undoes .*undo in 2 min.*the undo raised", shown)
    rows = json.loads(run("ops", "ls", shop.url, "--json").stdout)["operations"]
    phases = {row["name"]: (row["phase"], row["due_in_seconds"] is not None) for row in rows}
    assert phases["runs"] == ("running", False)
    assert phases["undoes"] == ("undoing", True)
