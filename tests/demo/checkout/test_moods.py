from collections import Counter

from retrysafe.demo.checkout.moods import Mood, mood_of, refusal_of
from retrysafe.demo.checkout.orders import CHECKOUT_PATH, HURRIED_PATH, Buyer
from retrysafe.demo.wire import Answer


def test_moods_are_decided_by_the_seed_and_all_of_them_come() -> None:
    moods = Counter(mood_of(7, "charges", f"order-{number}", 1) for number in range(1000))
    assert moods == Counter(mood_of(7, "charges", f"order-{number}", 1) for number in range(1000))
    assert set(moods) == set(Mood) - {Mood.LANDS_LATE}
    assert 850 < moods[Mood.FINE] < 950


def test_an_order_meets_one_bad_mood_on_its_way_forward() -> None:
    for number in range(300):
        moods = [mood_of(7, what, f"order-{number}", 1) for what in ("holds", "charges", "parcels")]
        assert sum(mood is not Mood.FINE for mood in moods) <= 1


def test_bad_moods_end() -> None:
    assert {mood_of(7, "holds", f"order-{number}", 2) for number in range(500)} == {Mood.FINE}


def test_who_is_in_a_hurry_meets_a_bank_that_never_gets_better() -> None:
    moods = {mood_of(7, "charges", f"hurry-{number}", nth) for number in range(50) for nth in range(1, 9)}
    assert moods == {Mood.FAILS_AFTER, Mood.LANDS_LATE}
    assert mood_of(7, "charges/find", "hurry-1", 9) is Mood.FAILS_BEFORE


def test_a_refusal_is_always_the_same_and_nothing_is_refused_past_the_pivot() -> None:
    orders = [f"order-{number}" for number in range(500)]
    assert {refusal_of(7, "charges", order) for order in orders} == {None, 402}
    assert {refusal_of(7, "holds", order) for order in orders} == {None, 422}
    assert {refusal_of(7, "parcels", order) for order in orders} == {None}


def test_every_tenth_buyer_is_in_a_hurry() -> None:
    paths = Counter(Buyer(number, 7, 0.0).path for number in range(1, 61))
    assert paths == {CHECKOUT_PATH: 54, HURRIED_PATH: 6}
    assert Buyer(3, 7, 0.0).basket == Buyer(3, 7, 0.0).basket


def test_the_first_final_answer_is_lost_be_it_a_receipt_or_a_refusal() -> None:
    buyer = Buyer(1, 7, 1.0)
    answers = [Answer(503), Answer(409, {"retry-after": "1"}), Answer(402), Answer(402)]
    assert [buyer.drops(answer) for answer in answers] == [False, False, True, False]
