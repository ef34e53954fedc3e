"""Look at every state that a model can reach, breadth first, so that what is found first is found by a shortest way.

Nothing here knows what is modelled. A state is any immutable value that can be hashed; a move leads from one state to
another. An invariant that does not hold is kept with the moves that lead there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

State = TypeVar("State")
Move = TypeVar("Move")

LIVENESS = "liveness"
"""The name under which :func:`explore` reports a state from which no rest need ever be reached."""


@dataclass(frozen=True)
class Model(Generic[State, Move]):
    """What to explore.

    Attributes:
        initial: where it begins.
        moves: what may happen in a state, and what is then.
        of_states: by name, what holds in every state.
        of_moves: by name, what holds of every move: the state before, the move, the state after.
        at_rest: a state in which nothing more has to happen.
        fair: a move that happens sooner or later if it can; the others may never happen, or at any time.
    """

    initial: State
    moves: Callable[[State], Iterable[tuple[Move, State]]]
    of_states: Mapping[str, Callable[[State], bool]]
    of_moves: Mapping[str, Callable[[State, Move, State], bool]]
    at_rest: Callable[[State], bool]
    fair: Callable[[Move], bool]


@dataclass(frozen=True)
class Exploration(Generic[Move]):
    """What was found.

    Attributes:
        states: how many states can be reached.
        transitions: how many moves there are between them.
        depth: the longest of the shortest ways to a state.
        moves: what happens anywhere.
        broken: by the name of each invariant that does not hold, the moves of a shortest way to where it does not.
    """

    states: int
    transitions: int
    depth: int
    moves: frozenset[Move]
    broken: Mapping[str, Sequence[Move]]


class _Search(Generic[State, Move]):
    """One exploration under way; states are numbered in the order in which they are found."""

    def __init__(self, model: Model[State, Move]) -> None:
        self._model = model
        self._numbers: dict[State, int] = {model.initial: 0}
        self._states: list[State] = [model.initial]
        self._came_from: list[tuple[int, Move] | None] = [None]
        self._depths = [0]
        self._fair: list[set[int]] = []
        self._transitions = 0
        self._moves: set[Move] = set()
        self._broken: dict[str, list[Move]] = {}
        self._of_states = dict(model.of_states)
        self._of_moves = dict(model.of_moves)

    def run(self) -> Exploration[Move]:
        """Look at all of it."""
        self._judge_state(0)
        for number, state in enumerate(self._states):  # grows while it is walked
            followers: set[int] = set()
            for move, after in self._model.moves(state):
                self._transitions += 1
                self._moves.add(move)
                follower = self._find(number, move, after)
                self._judge_move(number, move, after)
                if follower != number and self._model.fair(move):
                    followers.add(follower)
            self._fair.append(followers)
        self._judge_liveness()
        return Exploration(
            states=len(self._states),
            transitions=self._transitions,
            depth=self._depths[-1],
            moves=frozenset(self._moves),
            broken=self._broken,
        )

    def _find(self, number: int, move: Move, after: State) -> int:
        follower = self._numbers.setdefault(after, len(self._states))
        if follower == len(self._states):
            self._states.append(after)
            self._came_from.append((number, move))
            self._depths.append(self._depths[number] + 1)
            self._judge_state(follower)
        return follower

    def _judge_state(self, number: int) -> None:
        state = self._states[number]
        for name in [name for name, holds in self._of_states.items() if not holds(state)]:
            self._broken.setdefault(name, self._way_to(number))
            del self._of_states[name]

    def _judge_move(self, number: int, move: Move, after: State) -> None:
        before = self._states[number]
        for name in [name for name, holds in self._of_moves.items() if not holds(before, move, after)]:
            self._broken.setdefault(name, [*self._way_to(number), move])
            del self._of_moves[name]

    def _judge_liveness(self) -> None:
        """Find a state from which fair moves need not lead to rest, in whatever order they come.

        Going backwards from the states at rest: a state leads there when it has fair moves, and all of them do.
        """
        befores: list[list[int]] = [[] for _ in self._states]
        waiting = [len(followers) for followers in self._fair]
        for number, followers in enumerate(self._fair):
            for follower in followers:
                befores[follower].append(number)
        leads = [self._model.at_rest(state) for state in self._states]
        found = [number for number, rests in enumerate(leads) if rests]
        while found:
            for number in befores[found.pop()]:
                waiting[number] -= 1
                if waiting[number] == 0 and not leads[number]:
                    leads[number] = True
                    found.append(number)
        if not all(leads):
            self._broken[LIVENESS] = self._way_to(leads.index(False))

    def _way_to(self, number: int) -> list[Move]:
        way: list[Move] = []
        while (came := self._came_from[number]) is not None:
            number, move = came
            way.append(move)
        return way[::-1]


def explore(model: Model[State, Move]) -> Exploration[Move]:
    """Look at every state that the model can reach, and say what does not hold, each with a shortest way there."""
    return _Search(model).run()
