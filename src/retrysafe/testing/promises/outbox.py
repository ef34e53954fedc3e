"""Promises about what operations tell others."""

# ruff: noqa: S101 - a promise is asserted

from __future__ import annotations

from functools import partial

import pytest

from retrysafe.protocol.effects import Superseded, Written
from retrysafe.protocol.model import Claim, Message, Mode
from retrysafe.protocol.steps import StepKind, StepStatus
from retrysafe.stores.base import Outgoing
from retrysafe.testing.asks import DAY_SECONDS, a_memo, an_ask
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.runner import Runner

PAID, SHIPPED = Message("payments", b"paid"), Message("parcels", b"shipped")
LOCAL = a_memo("store", kind=StepKind.LOCAL, status=StepStatus.DONE, value=b"stored")


class OutboxPromises:
    """Messages leave if and only if what they tell of is durable."""

    def test_messages_enter_with_the_record(self, runner: Runner) -> None:
        """I11, R12: numbered from 1, byte for byte as they were."""
        message = Message("Ä ☂", b"\x00\xff" * 70_000, ((b"trace", b"\xe4\x00"), (b"trace", b"")))
        claim = _claimed(runner)
        assert list(runner.take_messages()) == []
        assert runner.record(claim, messages=[message, PAID]) == Written()
        taken = runner.take_messages()
        assert list(taken) == [Outgoing(claim.operation_id, 1, message), Outgoing(claim.operation_id, 2, PAID)]
        assert taken[1].id == f"{claim.operation_id}:2"

    def test_messages_enter_with_an_undone_record(self, runner: Runner) -> None:
        """I11, R7: that it was undone may be news as well."""
        claim = _claimed(runner)
        runner.begin_undo(claim)
        assert runner.record(claim, messages=[PAID]) == Superseded()
        assert runner.record(claim, undone=True, messages=[SHIPPED]) == Written()
        assert _taken(runner) == [SHIPPED]

    def test_messages_of_a_refused_write_never_leave(self, runner: Runner, clock: ManualClock) -> None:
        """I11, C4: neither a record's nor a local step's."""
        lost = _claimed(runner)
        clock.advance(10)
        winner = _claimed(runner)
        assert runner.record(lost, messages=[PAID]) == Superseded()
        assert runner.memoize(lost, LOCAL, [PAID]) == Superseded()
        assert runner.memoize(winner, LOCAL, [SHIPPED]) == Written()
        assert runner.memoize(winner, a_memo("store", fence=2), [PAID]) == Superseded()
        assert _taken(runner) == [SHIPPED]

    def test_a_write_made_twice_tells_once(self, runner: Runner) -> None:
        """I11, D4: a repeated record or memo is accepted, and sends nothing again."""
        claim = _claimed(runner)
        for _ in range(2):
            assert runner.memoize(claim, LOCAL, [PAID]) == Written()
        for _ in range(2):
            assert runner.record(claim, messages=[SHIPPED]) == Written()
        assert _taken(runner) == [PAID, SHIPPED]

    def test_messages_of_an_operation_are_numbered_on(self, runner: Runner, clock: ManualClock) -> None:
        """R12: across its steps and its attempts, also when the first have left already; no id is used twice."""
        claim = _claimed(runner)
        runner.memoize(claim, LOCAL, [PAID, PAID])
        runner.sent_messages(*runner.take_messages())
        clock.advance(10)
        claim = _claimed(runner)
        runner.memoize(claim, a_memo("ship", seq=2, kind=StepKind.LOCAL, status=StepStatus.DONE, fence=2), [SHIPPED])
        runner.record(claim, messages=[PAID])
        assert [(outgoing.number, outgoing.message) for outgoing in runner.take_messages()] == [(3, SHIPPED), (4, PAID)]

    def test_messages_leave_in_their_order_oldest_first(self, runner: Runner) -> None:
        """R12: those of one operation stay in their order, however few are taken at once."""
        claims = [_claimed(runner, f"key-{number}") for number in range(3)]
        for claim in reversed(claims):
            runner.memoize(claim, LOCAL, [PAID, SHIPPED])
        for claim in claims:
            runner.record(claim, messages=[PAID])
        taken: list[tuple[str, int]] = []
        while some := runner.take_messages(limit=2):
            assert len(some) <= 2
            taken += [(outgoing.operation_id, outgoing.number) for outgoing in some]
        stored = [(claim.operation_id, number) for claim in reversed(claims) for number in (1, 2)]
        assert taken == stored + [(claim.operation_id, 3) for claim in claims]

    def test_a_message_is_taken_once_until_its_lease_is_over(self, runner: Runner, clock: ManualClock) -> None:
        """R12: what did not leave is taken again, as the same message."""
        runner.record(_claimed(runner), messages=[PAID])
        taken = list(runner.take_messages(lease_seconds=30))
        clock.advance(29)
        assert list(runner.take_messages()) == []
        clock.advance(1)
        assert list(runner.take_messages()) == taken

    def test_of_many_who_send_each_message_is_taken_by_one(self, runner: Runner) -> None:
        """R12: and none is forgotten."""
        for number in range(6):
            runner.record(_claimed(runner, f"key-{number}"), messages=[PAID, SHIPPED])
        verbs = runner.store.verbs
        answers = runner.together([partial(verbs.take_messages, 3, 30.0) for _ in range(6)])
        assert max(map(len, answers)) <= 3
        answers.append(runner.take_messages())
        ids = [outgoing.id for answer in answers for outgoing in answer]
        assert sorted(ids) == sorted(f"{met.operation_id}:{n}" for met in runner.listing() for n in (1, 2))

    def test_what_has_left_is_gone(self, runner: Runner, clock: ManualClock) -> None:
        """R12: and saying so again is safe; what has not left stays."""
        runner.record(_claimed(runner), messages=[PAID, SHIPPED])
        first, second = runner.take_messages()
        runner.sent_messages(first)
        runner.sent_messages(first)
        runner.sent_messages()
        clock.advance(60)
        assert list(runner.take_messages()) == [second]

    @pytest.mark.parametrize("days", [2, 60])
    def test_messages_outlive_their_operation(self, runner: Runner, clock: ManualClock, days: int) -> None:
        """I11, R12: a broker that is down for longer than outcomes or tombstones are kept loses nothing."""
        claim = _claimed(runner)
        runner.memoize(claim, LOCAL, [PAID])
        runner.record(claim, messages=[SHIPPED])
        clock.advance(days * DAY_SECONDS)
        runner.purge_all()
        assert _taken(runner) == [PAID, SHIPPED]


def _claimed(runner: Runner, key: str = "key-of-a-test") -> Claim:
    """Claim an operation made of steps, for 10 s."""
    return runner.claimed(an_ask(key, mode=Mode.STEPS, lease_seconds=10))


def _taken(runner: Runner) -> list[Message]:
    return [outgoing.message for outgoing in runner.take_messages()]
