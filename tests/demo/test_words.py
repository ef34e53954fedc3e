from retrysafe.demo.settings import DemoSettings
from retrysafe.demo.timeline import Moment, Story
from retrysafe.demo.words import introduction, next_command, story_text, verdict
from retrysafe.protocol.states import State
from tests.demo.reports import UNKNOWN, paid, posting, report


def test_the_introduction_fits_a_terminal_and_names_every_lane() -> None:
    for settings in (DemoSettings(), DemoSettings(keyless_bank=True)):
        text = introduction(settings, 7)
        assert max(map(len, text.splitlines())) <= 100
        assert all(name in text for name in ("no protection", "get-then-set", "retrysafe", "seed is 7"))


def test_the_verdict_says_what_the_bank_did_for_the_lane() -> None:
    lane = report({"1": paid("1")}, [posting("1"), posting("1", repeated=True)], {State.DONE: 1})
    text = verdict(lane, [], DemoSettings())
    assert text.startswith("Lane C: 1 orders, 1 charges. Each order exactly once, none stuck.")
    assert "Once the bank was asked again" in text
    assert 'mode "once"' in " ".join(text.split())


def test_without_repeats_the_bank_gets_no_credit() -> None:
    text = verdict(report({"1": paid("1")}, [posting("1")], {State.DONE: 1}), [], DemoSettings())
    assert len(text.splitlines()) == 1


def test_in_keyless_mode_the_verdict_counts_what_nobody_knew() -> None:
    lane = report({"1": UNKNOWN, "2": UNKNOWN, "3": UNKNOWN}, [posting("1"), posting("2")], {State.PARKED: 3})
    text = " ".join(verdict(lane, [], DemoSettings(keyless_bank=True)).split())
    assert "none stuck, 3 parked" in text
    assert "2 of the 3 were charged, 1 not" in text


def test_broken_promises_are_listed_but_not_all_of_them() -> None:
    problems = [f"order-{number} was charged 2 times" for number in range(9)]
    lane = report({}, [], {})
    text = verdict(lane, problems, DemoSettings())
    assert text.startswith("Lane C differs from its orders")
    assert text.count("charged 2 times") == 5
    assert "and 4 more" in text
    assert "declare" not in text


def test_a_wrong_declaration_is_named_as_the_cause() -> None:
    settings = DemoSettings(keyless_bank=True, mode="again")
    assert 'declare "once"' in verdict(report({}, [], {}), ["1 was charged 2 times"], settings)


def test_the_next_command_is_the_other_bank_in_the_words_the_demo_was_started_with() -> None:
    assert next_command(DemoSettings(), 7).endswith("python -m retrysafe.demo --seed 7 --keyless-bank")
    other = DemoSettings(keyless_bank=True, orders=12, command="retrysafe demo")
    assert next_command(other, 7).endswith("retrysafe demo --orders 12 --seed 7")
    made = DemoSettings(command="make demo")
    assert next_command(made, 7).endswith('make demo ARGS="--seed 7 --keyless-bank"')

    second = DemoSettings(only="checkout", command="retrysafe demo")
    assert next_command(second, 7).endswith("retrysafe demo --only checkout --seed 7")


def test_a_story_is_told_in_seconds() -> None:
    text = story_text(Story("order-0001", "op", [Moment(0.0, "claimed"), Moment(1.25, "the lease is over")]))
    assert text.splitlines()[1:] == ["    0.000 s  claimed", "    1.250 s  the lease is over"]
