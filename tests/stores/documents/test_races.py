"""What becomes of programs on documents when others are faster, answers are lost, or the process dies between two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest

from retrysafe.errors import RecordUnreadable, StoreUnavailable
from retrysafe.protocol.effects import Superseded, Written
from retrysafe.protocol.model import Claim, Message, Mode
from retrysafe.protocol.operator import Verb
from retrysafe.protocol.states import State
from retrysafe.protocol.steps import StepKind, StepStatus
from retrysafe.stores.base import Held, Lost, Purged, Query
from retrysafe.stores.documents.port import Loaded, Place, Shown
from retrysafe.stores.documents.shelf import Numbers
from retrysafe.stores.program import Answer, Statement
from retrysafe.testing.asks import a_memo, an_ask, an_intervention, some_terms
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.runner import Runner
from tests.stores.documents.cabinet import Cabinet, CabinetStore

LOCAL = a_memo("store", kind=StepKind.LOCAL, status=StepStatus.DONE, value=b"stored")
TOLD = [Message("payments", b"paid")]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=[False, True], ids=["careful", "careless"])
def cabinet(request: pytest.FixtureRequest) -> Cabinet:
    return Cabinet(careless=request.param)


@pytest.fixture
def another(cabinet: Cabinet, clock: ManualClock) -> Callable[[], Runner]:
    """Start another process on the same documents."""
    return lambda: Runner(CabinetStore(cabinet, clock), "sync")


@pytest.fixture
def runner(another: Callable[[], Runner]) -> Runner:
    return another()


def watch(runner: Runner) -> list[str]:
    """Return the names of the statements that it performs from now on."""
    assert isinstance(runner.store, CabinetStore)
    store, performed = runner.store, list[str]()

    def fetch(statement: Statement) -> Answer:
        performed.append(statement.text)
        return store._fetch(statement)

    store.fetch = fetch
    return performed


class Died(BaseException):
    pass


def disturb(runner: Runner, number: int, act: Callable[[], None], *, after: bool) -> None:
    """Do something before or after the statement of this number."""
    assert isinstance(runner.store, CabinetStore)
    store, performed = runner.store, list[str]()

    def fetch(statement: Statement) -> Answer:
        performed.append(statement.text)
        if len(performed) == number and not after:
            act()
        answer = store._fetch(statement)
        if len(performed) == number and after:
            act()
        return answer

    store.fetch = fetch


def test_an_attempt_that_nobody_disturbs_writes_and_does_not_read(runner: Runner, clock: ManualClock) -> None:
    """A claim of a new key is one write, and so is each write of its attempt."""
    performed = watch(runner)
    claim = runner.claimed(an_ask(mode=Mode.STEPS))
    clock.advance(1)
    runner.renew(claim)
    runner.memoize(claim, LOCAL)
    runner.record(claim)
    assert performed == ["write"] * 4


def test_a_write_over_what_another_process_wrote_looks_again(
    runner: Runner, another: Callable[[], Runner], clock: ManualClock
) -> None:
    """C4: what is remembered of a document grants nothing."""
    claim = runner.claimed(an_ask())
    other = another()
    clock.advance(1)
    assert other.renew(claim) == [Held()]
    performed = watch(runner)
    assert runner.record(claim) == Written()
    assert performed == ["write", "load", "write"]


def test_nothing_is_told_from_what_is_only_remembered(
    runner: Runner, another: Callable[[], Runner], clock: ManualClock
) -> None:
    """C4: a renewal that would change nothing has to look whether the claim is still ours."""
    claim = runner.claimed(an_ask(mode=Mode.AGAIN, lease_seconds=10))
    runner.hand_over(claim)
    other = another()
    [seen] = other.abandoned()
    other.reclaimed(seen)
    runner.hand_over(claim)
    assert runner.renew(claim) == [Lost()]
    assert runner.record(claim) == Superseded()
    assert other.read(claim).lease_until > clock()


DISTURBED: dict[str, Callable[[Runner, Claim], Any]] = {
    "renew": lambda runner, claim: runner.renew(claim),
    "begin_stream": lambda runner, claim: runner.begin_stream(claim),
    "memoize": lambda runner, claim: runner.memoize(claim, LOCAL, TOLD),
    "record": lambda runner, claim: runner.record(claim, messages=TOLD),
    "release": lambda runner, claim: runner.release(claim),
    "park": lambda runner, claim: runner.park(claim),
    "begin_undo": lambda runner, claim: runner.begin_undo(claim),
    "postpone": lambda runner, claim: runner.postpone(claim),
    "hand_over": lambda runner, claim: runner.hand_over(claim),
}


@pytest.mark.parametrize("verb", DISTURBED)
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
class TestAtEveryStatement:
    def test_a_verb_whose_answer_was_lost_is_run_again_and_tells(
        self, another: Callable[[], Runner], verb: str, number: int, *, after: bool
    ) -> None:
        """D4: whether or not it was carried out, and from a process that remembers nothing."""
        claim = another().claimed(an_ask(mode=Mode.STEPS, lease_seconds=10))
        expected = DISTURBED[verb]
        dying = another()
        disturb(dying, number, _die, after=after)
        try:
            answer = expected(dying, claim)
        except Died:
            answer = expected(another(), claim)
        assert answer in ([Held()], Written(), None)
        there = another().take_messages()
        assert len(there) == (verb in {"memoize", "record"})
        other = another()
        assert other.look_up(an_ask()) is not None

    def test_a_rival_that_comes_in_between_makes_it_look_again(
        self, another: Callable[[], Runner], clock: ManualClock, verb: str, number: int, *, after: bool
    ) -> None:
        """C4: the verb comes before the rival, or is refused; never both halves of each."""
        runner, rival = another(), another()
        claim = another().claimed(an_ask(mode=Mode.STEPS, lease_seconds=10))
        clock.advance(10)
        taken: list[Claim] = []

        def take_over() -> None:
            taken.extend(rival.reclaimed(seen, some_terms()) for seen in rival.abandoned())

        disturb(runner, number, take_over, after=after)
        answer = DISTURBED[verb](runner, claim)
        met = rival.read(claim)
        if taken and answer in ([Lost()], Superseded()):
            assert (met.fence, met.state, met.deaths) == (2, State.RUNNING, 1)
            assert rival.trail(claim).memos == ()
            assert rival.take_messages() == []
        elif answer in ([Held()], Written()):
            assert met.fence == 1 + len(taken)
            assert len(rival.take_messages()) == (verb in {"memoize", "record"})


def _die() -> None:
    raise Died


class TestAudit:
    @pytest.mark.parametrize("number", range(1, 9))
    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    def test_a_person_s_decision_has_its_line_wherever_the_process_dies(
        self, another: Callable[[], Runner], number: int, *, after: bool
    ) -> None:
        """R10: exactly one line if it was carried out, none if not."""
        first = another()
        claim = first.claimed(an_ask())
        first.park(claim)
        seen = first.read(claim)
        dying = another()
        disturb(dying, number, _die, after=after)
        with suppress(Died):
            dying.intervene(seen, an_intervention(Verb.RELEASE))
        other = another()
        carried_out = other.read(claim).state is State.RELEASED
        assert carried_out == (number > 2 or (number == 2 and after))
        for _ in range(2):
            assert [line.number for line in other.audit()] == ([1] if carried_out else [])

    def test_lines_survive_the_operation_that_they_are_about(
        self, runner: Runner, another: Callable[[], Runner], cabinet: Cabinet, clock: ManualClock
    ) -> None:
        """R10: also when they had not been copied by then."""
        claim = runner.claimed(an_ask())
        runner.park(claim)
        dying = another()
        disturb(dying, 3, _die, after=False)
        with pytest.raises(Died):
            dying.intervene(runner.read(claim), an_intervention(Verb.RELEASE))
        clock.advance(31 * 86_400)
        assert runner.purge_all() == Purged(0, 1, more=False)
        assert runner.look_up(claim) is None
        assert list(runner.listing()) == []
        assert len(runner.audit()) == 1
        assert not cabinet.documents


class TestOtherReleases:
    @pytest.fixture
    def claims(self, runner: Runner, cabinet: Cabinet) -> list[Claim]:
        claims = [runner.claimed(an_ask(f"key-{number}", mode=Mode.AGAIN, lease_seconds=10)) for number in range(3)]
        body, revision, facts = cabinet.documents[claims[1].digest]
        cabinet.documents[claims[1].digest] = (b"\x07" + body[1:], revision + 1000, facts)
        return claims

    def test_a_document_of_a_newer_release_is_never_run(self, runner: Runner, claims: list[Claim]) -> None:
        """S11."""
        with pytest.raises(RecordUnreadable, match="format of a document: 07"):
            runner.claim(an_ask("key-1"))
        with pytest.raises(RecordUnreadable):
            runner.record(claims[1])

    def test_it_keeps_nobody_from_the_others(self, runner: Runner, claims: list[Claim], clock: ManualClock) -> None:
        """R2, C3, C7."""
        assert runner.renew(*claims) == [Held(), Lost(), Held()]
        runner.hand_over(*claims)
        assert len(runner.abandoned()) == 2
        assert len(runner.dispatch()) == 2
        assert {met.operation_id for met in runner.listing()} == {claims[0].operation_id, claims[2].operation_id}

    def test_what_is_damaged_is_said_to_be(self, runner: Runner, cabinet: Cabinet) -> None:
        """S11."""
        claim = runner.claimed(an_ask())
        body, revision, facts = cabinet.documents[claim.digest]
        cabinet.documents[claim.digest] = (body[:-9], revision, facts)
        with pytest.raises(RecordUnreadable, match="can't be read"):
            runner.read(claim)


@pytest.mark.parametrize(("limit", "most"), [(1, 16), (20, 40)])
def test_who_wants_a_few_does_not_load_hundreds(  # noqa: PLR0917 - what it is run with
    runner: Runner, cabinet: Cabinet, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, limit: int, most: int
) -> None:
    """S2: each may be as large as a request can be."""
    for number in range(60):
        runner.claimed(an_ask(f"key-{number}", mode=Mode.AGAIN, lease_seconds=10))
    clock.advance(10)
    loads, load, newest = list[int](), cabinet.load, cabinet.newest

    def loaded(digests: Sequence[bytes]) -> Sequence[Loaded]:
        loads.append(len(digests))
        return load(digests)

    def listed(after: Place | None, limit: int) -> Sequence[Shown]:
        loads.append(limit)
        return newest(after, limit)

    monkeypatch.setattr(cabinet, "load", loaded)
    monkeypatch.setattr(cabinet, "newest", listed)
    assert len(runner.abandoned(limit)) == limit
    assert len(runner.listing(Query(limit=limit))) == limit
    assert len(runner.dispatch(limit=limit)) == limit
    assert max(loads) == most


def test_a_store_that_never_lets_anybody_write_is_given_up(runner: Runner) -> None:
    """D1: instead of trying for ever."""
    claim = runner.claimed(an_ask())
    store = runner.store
    assert isinstance(store, CabinetStore)

    def fetch(statement: Statement) -> Answer:
        return Answer([(None,)]) if statement.text == "write" else CabinetStore._fetch(store, statement)

    store.fetch = fetch
    with pytest.raises(StoreUnavailable, match="again and again"):
        runner.record(claim)


def test_numbers_grow_and_follow_the_clock() -> None:
    """So that a listing is in order across processes, and within one whatever its clock does."""
    numbers = Numbers()
    assert [numbers.next(now) for now in (1.0, 1.0, 0.5, 2.0)] == [1_000_000, 1_000_001, 1_000_002, 2_000_000]


def test_messages_that_another_process_took_can_be_deleted(runner: Runner, another: Callable[[], Runner]) -> None:
    """R12: a hint of where they came from is only a hint."""
    runner.record(runner.claimed(an_ask()), messages=TOLD * 3)
    taken = another().take_messages(2)
    runner.sent_messages(*taken)
    assert [left.number for left in runner.take_messages()] == [3]
