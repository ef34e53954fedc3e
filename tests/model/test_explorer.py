"""The search itself, on models that fit on a hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tests.model.explorer import LIVENESS, Model, explore


def _graph(edges: Mapping[int, Iterable[tuple[str, int]]], rest: int = 9) -> Model[int, str]:
    return Model(
        initial=0,
        moves=lambda state: edges.get(state, ()),
        of_states={"below 4": lambda state: state < 4 or state == rest},
        of_moves={"never back": lambda before, _, after: after >= before},
        at_rest=lambda state: state == rest,
        fair=lambda move: move != "unfair",
    )


def test_the_shortest_of_several_ways_is_told() -> None:
    found = explore(_graph({0: [("a", 1), ("b", 2)], 1: [("c", 2)], 2: [("d", 4)], 4: [("e", 9)]}))
    assert found.broken == {"below 4": ["b", "d"]}
    assert (found.states, found.transitions, found.depth) == (5, 5, 3)
    assert found.moves == {"a", "b", "c", "d", "e"}


def test_a_forbidden_move_is_told_though_both_its_states_are_allowed() -> None:
    found = explore(_graph({0: [("a", 1)], 1: [("back", 0), ("b", 9)]}))
    assert found.broken["never back"] == ["a", "back"]


def test_what_holds_everywhere_and_rests_in_the_end_is_whole() -> None:
    assert explore(_graph({0: [("a", 1), ("b", 9)], 1: [("c", 9)]})).broken == {}


def test_an_end_that_is_no_rest_is_told() -> None:
    assert explore(_graph({0: [("a", 9), ("b", 1), ("b", 2)], 2: [("c", 9)]})).broken == {LIVENESS: []}
    assert explore(_graph({0: [("unfair", 1), ("b", 9)]})).broken == {LIVENESS: ["unfair"]}


def test_going_round_for_ever_is_told() -> None:
    assert explore(_graph({0: [("a", 1)], 1: [("a", 2), ("b", 9)], 2: [("a", 1)]})).broken[LIVENESS] == []


def test_what_never_has_to_happen_does_not_lead_to_rest() -> None:
    assert explore(_graph({0: [("unfair", 9)]})).broken == {LIVENESS: []}
