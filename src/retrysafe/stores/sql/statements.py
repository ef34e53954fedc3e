"""A database's statements, by name, with their lists of columns and states filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from string import Template
from types import MappingProxyType

from retrysafe.protocol.states import LEASED, State
from retrysafe.stores.rows import COLUMNS, LISTED, MEMO_COLUMNS, PURGEABLE, before, one_of

_NAMED = re.compile(r"^-- name: (\w+)\n(.*?)(?=^-- name: |\Z)", re.MULTILINE | re.DOTALL)


class Statements:
    """Every statement of one database, read once.

    What stays open, such as ``$claims``, depends on the parameters of one run: see the methods.
    """

    def __init__(self, package: str) -> None:
        """Read what all databases share, and what a package has in its ``queries.sql``."""
        named = _read("retrysafe.stores.sql") | _read(package)
        lists = {
            # A database may have a type of its own for digests, which are bytes here.
            "digest": named.get("digest", "?").strip(),
            "columns": _columns(COLUMNS, named),
            "nothing": ", ".join(["NULL"] * len(COLUMNS)),
            # When a statement tells the time by itself.
            "instant": named.get("instant", "?").strip(),
            "over_intent": named.get("over_intent", "").strip(),
            "listed": _columns(LISTED, named),
            "memo_columns": _columns(MEMO_COLUMNS, named),
            "leased": one_of(LEASED),
            "purgeable": one_of(PURGEABLE),
            **{f"before_{state}": before(state) for state in State},
        }
        self._texts: Mapping[str, str] = MappingProxyType(
            {name: Template(body.strip()).safe_substitute(lists) for name, body in named.items()}
        )
        self._filled: dict[tuple[str, object], str] = {}

    def __getitem__(self, name: str) -> str:
        """Return a statement."""
        return self._texts[name]

    def with_claims(self, name: str, number: int) -> str:
        """Return a batched statement for so many claims.

        Args:
            name: the statement, with a ``$claims`` list of digest, operation id, fence and lease end.
            number: how many claims, at least one.
        """
        return self._fill(name, number, "claims", ", ".join([self["claim"]] * number))

    def with_states(self, name: str, states: frozenset[State]) -> str:
        """Return a statement for an operation in one of these states (``$states``)."""
        return self._fill(name, states, "states", one_of(states))

    def with_conditions(self, name: str, conditions: tuple[str, ...]) -> str:
        """Return a statement with its ``WHERE``.

        Args:
            name: the statement, with ``$conditions``.
            conditions: written by us, with placeholders for whatever a caller said.
        """
        return self._fill(name, conditions, "conditions", " AND ".join(conditions) or "TRUE")

    def with_asked(self, name: str, source: str) -> str:
        """Return a statement with where its rows come from.

        Args:
            name: the statement, with ``$asked``.
            source: the statement that gives one row of parameters, or many.
        """
        return self._fill(name, source, "asked", self._texts[source])

    def _fill(self, name: str, variant: object, blank: str, text: str) -> str:
        found = self._filled.get((name, variant))
        if found is None:
            found = self._filled[name, variant] = Template(self._texts[name]).substitute({blank: text})
        return found


def _read(package: str) -> dict[str, str]:
    return dict(_NAMED.findall(files(package).joinpath("queries.sql").read_text("utf-8")))


def _columns(columns: Sequence[str], named: Mapping[str, str]) -> str:
    """Write a list of columns, each as it is or as the database's ``column_...`` says."""
    return ", ".join(named.get(f"column_{column}", column).strip() for column in columns)
