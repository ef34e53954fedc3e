"""``retrysafe ops audit``, and the audit below an operation."""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from retrysafe.protocol.model import Mode
from retrysafe.testing.asks import DAY_SECONDS
from tests.cli.conftest import Run, Shop


def _by_hand(run: Run, shop: Shop, verb: str, operation_id: str, note: str, *options: Any) -> None:
    told = run("ops", verb, shop.url, operation_id, *options, "--by", "ada", "--note", note, "--yes")
    assert told.exit_code == 0, told.stderr


def _notes(run: Run, *arguments: Any) -> Sequence[str]:
    told = run("ops", "audit", *arguments, "--json")
    assert told.exit_code == 0, told.stderr
    return [line["note"] for line in json.loads(told.stdout)["audit"]]


def test_the_audit_lists_what_persons_did_newest_first(run: Run, shop: Shop) -> None:
    """R10."""
    assert run("ops", "audit", shop.url).stdout == "nobody did anything by hand\n"
    one, two = shop.claim("k-1"), shop.order("k-2")
    shop.park(one)
    shop.park(two)
    _by_hand(run, shop, "resume", two.operation_id, "the bank is back")
    _by_hand(run, shop, "settle", one.operation_id, "charge 7", "--status", 201)
    first, second = run("ops", "audit", shop.url).stdout.splitlines()
    assert first.endswith("settle  parked → done     fence 2  ada: charge 7")
    assert second.endswith("resume  parked → running  fence 2  ada: the bank is back")
    assert _notes(run, shop.url, one.operation_id) == ["charge 7"]
    assert _notes(run, shop.url, "--limit", 1) == ["charge 7"]
    assert _notes(run, two.operation_id, shop.url) == ["the bank is back"]


def test_the_audit_stands_below_its_operation_and_in_its_course(run: Run, shop: Shop) -> None:
    claim = shop.order()
    shop.park(claim)
    _by_hand(run, shop, "resume", claim.operation_id, "the bank is back")
    shown = run("ops", "show", shop.url, claim.operation_id)
    assert "●  resume by ada: running, fence 2" in shown.stdout
    assert "resume  parked → running  fence 2  ada: the bank is back" in shown.stdout
    assert "the lease of attempt 1 was over" not in shown.stdout
    [line] = json.loads(run("ops", "show", shop.url, claim.operation_id, "--json").stdout)["audit"]
    assert line.keys() == {
        *("number", "at", "operation", "verb", "by", "note"),
        *("state_before", "state_after", "fence_after"),
    }


def test_a_settled_outcome_is_not_taken_for_that_of_an_attempt(run: Run, shop: Shop) -> None:
    claim = shop.claim("k-1")
    shop.park(claim)
    _by_hand(run, shop, "settle", claim.operation_id, "charge 7", "--status", 201)
    shown = run("ops", "show", shop.url, claim.operation_id).stdout
    assert "settle by ada: done, fence 2" in shown
    assert "outcome recorded by attempt" not in shown


def test_the_audit_outlives_the_operation(run: Run, shop: Shop) -> None:
    """R10, S10."""
    claim = shop.claim("k-1", mode=Mode.AGAIN, tombstone_seconds=1)
    shop.park(claim)
    shop.store.close()
    _by_hand(run, shop, "release", claim.operation_id, "nothing happened")
    # A released key is remembered as long as a settled one.
    shop.seconds_ago(-40 * DAY_SECONDS)
    purged = shop.store.run(partial(shop.store.verbs.purge, 10))
    assert purged.deleted == 1
    assert run("ops", "show", shop.url, claim.operation_id).exit_code == 2
    assert _notes(run, shop.url, claim.operation_id) == ["nothing happened"]
    assert _notes(run, shop.url, claim.operation_id[:18]) == ["nothing happened"]


def test_an_operation_that_nobody_touched_is_known_and_one_that_is_not_is_refused(run: Run, shop: Shop) -> None:
    claim = shop.claim("k-1")
    assert _notes(run, shop.url, claim.operation_id) == []
    told = run("ops", "audit", shop.url, "ffff")
    assert told.exit_code == 2
    assert "no operation has an id" in told.stderr
    assert run("ops", "audit", shop.url, "a", "b").exit_code == 2


def test_a_note_cannot_drive_the_terminal(shop: Shop, run: Run) -> None:
    """Another program may have written it: through the store, not through this command."""
    from retrysafe.protocol.operator import Intervention, Verb

    claim = shop.claim("k-1")
    shop.park(claim)
    intervention = Intervention(Verb.RELEASE, "\x1b[2J", "gone\x1b[2J")
    shop.store.run(partial(shop.store.verbs.intervene, shop.read(claim), intervention))
    for command in (("audit", shop.url), ("show", shop.url, claim.operation_id)):
        assert "\x1b" not in run("ops", *command).stdout
