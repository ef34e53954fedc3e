"""The states of a checkpoint as a picture: it shows ``TRANSITIONS``; only where each state stands is said here."""

from collections.abc import Iterator
from math import copysign, hypot

from retrysafe.protocol.states import FINAL, TRANSITIONS, State

PLACES = {
    State.RELEASED: (0, 0),
    State.STREAMING: (1, 0),
    State.RUNNING: (0, 1),
    State.DONE: (2, 1),
    State.EXPIRED: (3, 1),
    State.PARKED: (1, 2),
    State.UNDOING: (0, 3),
    State.UNDONE: (2, 3),
}
"""Column and row of each state."""
_LEFT, _TOP, _COLUMN, _ROW = 120, 70, 240, 105
_HALF_WIDTH, _HALF_HEIGHT = 62, 22
_APART, _GAP = 7, 2
"""How far the two lines between a pair of states are from its middle, and a head from its box."""

_HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 450" role="img" aria-labelledby="title">
  <title id="title">The states of a checkpoint</title>
  <style>
    .card { fill: #fbfaf7; stroke: #ddd8cc }
    .state { fill: #ffffff; stroke: #35506b; stroke-width: 1.5 }
    .final { stroke-width: 3 }
    .move { fill: none; stroke: #35506b; stroke-width: 1.5 }
    .head { fill: #35506b }
    text { font: 600 15px system-ui, sans-serif; fill: #22303d; text-anchor: middle }
    .note { font-weight: 400; font-size: 13px; text-anchor: end }
    @media (prefers-color-scheme: dark) {
      .card { fill: #171c22; stroke: #313a44 }
      .state { fill: #212932; stroke: #86abcc }
      .move { stroke: #86abcc } .head { fill: #86abcc }
      text { fill: #dfe6ec }
    }
  </style>
  <defs>
    <marker id="head" class="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">
      <path d="M0 0 10 5 0 10z"/>
    </marker>
  </defs>
  <rect class="card" x="1" y="1" width="958" height="448" rx="14"/>
"""
_FOOT = """\
  <text class="note" x="935" y="408">thick: final, the outcome never changes</text>
</svg>
"""


def states() -> str:
    """Draw every state and every move."""
    return _HEAD + "".join((*_moves(), *_boxes())) + _FOOT


def _moves() -> Iterator[str]:
    for source in State:
        for target in State:
            if target in TRANSITIONS[source]:
                style = "move"
                way = _loop(source) if source is target else _line(source, target)
                title = f"<title>{source} to {target}</title>"
                yield f'  <path class="{style}" d="{way}" marker-end="url(#head)">{title}</path>\n'


def _boxes() -> Iterator[str]:
    for state in State:
        x, y = _centre(state)
        style = "state" + " final" * (state in FINAL)
        place = f'x="{x - _HALF_WIDTH}" y="{y - _HALF_HEIGHT}" width="{2 * _HALF_WIDTH}" height="{2 * _HALF_HEIGHT}"'
        yield f'  <rect class="{style}" {place} rx="8"/>\n'
        yield f'  <text x="{x}" y="{y + 5}">{state}</text>\n'


def _centre(state: State) -> tuple[int, int]:
    column, row = PLACES[state]
    return _LEFT + column * _COLUMN, _TOP + row * _ROW


def _loop(state: State) -> str:
    """Leave a box on its left and come back."""
    x, y = _centre(state)
    left = x - _HALF_WIDTH
    return f"M{left} {y - 10}C{left - 42} {y - 34} {left - 42} {y + 34} {left - 2} {y + 10}"


def _line(source: State, target: State) -> str:
    """Go straight from box to box, a little to the right if there is a way back."""
    (x1, y1), (x2, y2) = _centre(source), _centre(target)
    along = ((x2 - x1) / hypot(x2 - x1, y2 - y1), (y2 - y1) / hypot(x2 - x1, y2 - y1))
    apart = _APART if source in TRANSITIONS[target] else 0
    aside = (-along[1] * apart, along[0] * apart)
    begin, end = _to_edge(aside, along), _to_edge(aside, (-along[0], -along[1])) + _GAP
    return (
        f"M{x1 + aside[0] + along[0] * begin:.0f} {y1 + aside[1] + along[1] * begin:.0f}"
        f"L{x2 + aside[0] - along[0] * end:.0f} {y2 + aside[1] - along[1] * end:.0f}"
    )


def _to_edge(point: tuple[float, float], along: tuple[float, float]) -> float:
    """How far it is to the edge of a box from a point in it, seen from the centre of the box."""
    halves = (_HALF_WIDTH, _HALF_HEIGHT)
    return min((copysign(half, to) - at) / to for half, at, to in zip(halves, point, along, strict=True) if to)
