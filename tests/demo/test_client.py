import json

import pytest

from retrysafe.demo.client import Customer, Word, judge
from retrysafe.demo.wire import Answer


def test_a_customer_is_decided_by_the_seed() -> None:
    one, same, other = Customer(3, 7, 0.5), Customer(3, 7, 0.5), Customer(3, 8, 0.5)
    assert (one.key, one.body, one.loses_first_answer) == (same.key, same.body, same.loses_first_answer)
    assert one.key != other.key


def test_about_the_given_part_of_customers_loses_an_answer() -> None:
    assert 250 < sum(Customer(number, 7, 0.3).loses_first_answer for number in range(1000)) < 350


def test_only_the_first_answer_that_says_the_work_is_done_is_lost() -> None:
    customer = Customer(1, 7, 1.0)
    answers = [Answer(503), Answer(201), Answer(201)]
    assert [customer.drops(answer) for answer in answers] == [False, True, False]


def test_a_pause_is_what_the_server_asks_for_within_reason_else_jitter() -> None:
    customer = Customer(1, 7, 0.0)
    assert customer.pause_seconds(Answer(409, {"retry-after": "1"})) == 1.0
    assert customer.pause_seconds(Answer(503, {"retry-after": "600"})) == 1.0
    assert all(0 <= customer.pause_seconds(None) <= 0.5 for _ in range(50))


def _problem(status: int, code: str, **headers: str) -> Answer:
    return Answer(status, headers, json.dumps({"code": code}).encode())


@pytest.mark.parametrize(
    "answer",
    [
        Answer(409, {"retry-after": "1"}, b'{"code": "in-progress"}'),
        Answer(503, {"retry-after": "1"}, b""),
        Answer(500, {}, b""),
    ],
)
def test_what_may_change_is_asked_again(answer: Answer) -> None:
    assert judge(answer) is None


def test_a_final_answer_says_paid_unknown_or_refused() -> None:
    paid = judge(Answer(201, {"idempotent-replayed": "true"}, b'{"order":"1","charge":"ch_1"}'))
    assert paid is not None
    assert (paid.word, paid.charge, paid.replayed) == (Word.PAID, "ch_1", True)
    unknown, refused = judge(_problem(409, "outcome-unknown")), judge(_problem(422, "key-reused"))
    assert unknown is not None
    assert refused is not None
    assert (unknown.word, refused.word) == (Word.UNKNOWN, Word.REFUSED)
