"""Which fields of a request body count as the client's intent (F4).

JSON fields are named by path: ``$.order.total``, ``$.items[*].sent_at``, and ``$['a name with.dots']`` where
a plain name will not do. Anything that does not start with ``$`` is the name of a form field. Paths never
apply to forms and names never apply to JSON: a rule written for the one must not make every body of the other
look alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import msgspec

_SEGMENT = re.compile(r"\.([^\s.\[\]'\"*]+)|\[(\*)\]|\['([^']+)'\]")

Json = dict[str, "Json"] | list["Json"] | str | int | msgspec.Raw | None
"""A parsed JSON text; numbers that no machine integer holds are ``Raw``."""

Node = dict[str | None, "Node"]
"""A tree of paths by segment; None stands for ``[*]``, an empty node for "this and everything below"."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Compiled include or exclude rules.

    Attributes:
        keep: True when only what is named counts, False when what is named does not count.
        paths: JSON paths as a tree; empty when there are none, and then a JSON body counts as a whole.
        names: form field names; empty when there are none, and then a form counts as a whole.
    """

    keep: bool
    paths: Node
    names: frozenset[bytes]

    def of_json(self, document: Json) -> Json:
        """Return the part of a parsed JSON document that counts; the document itself is not changed."""
        if not self.paths:
            return document
        return _kept(document, self.paths) if self.keep else _without(document, self.paths)

    def has(self, name: bytes) -> bool:
        """Tell whether a form field counts."""
        return not self.names or (name in self.names) is self.keep


def path_problem(field: str) -> str | None:
    """Say what is wrong with an include or exclude rule, in one sentence with its fix, or None."""
    if not field:
        return "an empty field name was listed: remove it"
    if field.startswith("$") and (field == "$" or "".join(_raw_segments(field)) != field[1:]):
        return f"{field!r} is not a path: write it like $.order.total, $.items[*].sent_at or $['odd.name']"
    return None


@lru_cache(maxsize=256)
def selection(include: frozenset[str], exclude: frozenset[str]) -> Selection | None:
    """Compile rules that :func:`path_problem` accepted; None when every field counts."""
    fields = include or exclude
    if not fields:
        return None
    return Selection(
        keep=bool(include),
        paths=_tree(field for field in fields if field.startswith("$")),
        names=frozenset(field.encode("utf-8", "surrogatepass") for field in fields if not field.startswith("$")),
    )


def _raw_segments(path: str) -> Iterable[str]:
    return (found.group() for found in _SEGMENT.finditer(path, 1))


def _tree(paths: Iterable[str]) -> Node:
    root: Node = {}
    split = ([name or quoted or None for name, _, quoted in _SEGMENT.findall(path, 1)] for path in paths)
    # Short paths first, so that an empty node met on the way is always one that was named itself.
    for segments in sorted(split, key=len):
        _insert(root, segments)
    return root


def _insert(node: Node, segments: list[str | None]) -> None:
    *parents, last = segments
    for segment in parents:
        below = node.get(segment)
        if below is None:
            below = node[segment] = {}
        elif not below:
            return
        node = below
    node[last] = {}


def _kept(value: Json, node: Node) -> Json:
    if not node:
        return value
    if isinstance(value, dict):
        return {name: _kept(value[name], below) for name, below in node.items() if name in value}
    if isinstance(value, list) and None in node:
        return [_kept(element, node[None]) for element in value]
    return None


def _without(value: Json, node: Node) -> Json:
    if isinstance(value, dict):
        return {
            name: member if below is None else _without(member, below)
            for name, member in value.items()
            if (below := node.get(name)) is None or below
        }
    if isinstance(value, list) and None in node:
        return [_without(element, node[None]) for element in value] if node[None] else []
    return value
