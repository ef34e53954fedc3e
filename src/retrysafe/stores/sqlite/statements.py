"""The statements of ``queries.sql``, by name, with their lists of columns and states filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from string import Template
from types import MappingProxyType

from retrysafe.protocol.states import LEASED, State
from retrysafe.stores.rows import COLUMNS, LISTED, PURGEABLE, before, one_of

_NAMED = re.compile(r"^-- name: (\w+)\n(.*?)(?=^-- name: |\Z)", re.MULTILINE | re.DOTALL)


@cache
def statements() -> Mapping[str, str]:
    """Read every statement once per process.

    What stays open, such as ``$claims``, depends on the parameters of one run: see the functions below.
    """
    text = files("retrysafe.stores.sqlite").joinpath("queries.sql").read_text("utf-8")
    lists = {
        "columns": ", ".join(COLUMNS),
        "listed": ", ".join(LISTED),
        "leased": one_of(LEASED),
        "purgeable": one_of(PURGEABLE),
        **{f"before_{state}": before(state) for state in State if state is not State.UNDOING},
    }
    return MappingProxyType(
        {name: Template(body.strip()).safe_substitute(lists) for name, body in _NAMED.findall(text)}
    )


@cache
def with_claims(name: str, number: int) -> str:
    """Return a batched statement for so many claims.

    Args:
        name: the statement, with a ``$claims`` list of digest, operation id, fence and lease end.
        number: how many claims, at least one.
    """
    return Template(statements()[name]).substitute(claims=", ".join(["(?, ?, ?, ?)"] * number))


@cache
def with_conditions(name: str, conditions: tuple[str, ...]) -> str:
    """Return a statement with its ``WHERE``.

    Args:
        name: the statement, with ``$conditions``.
        conditions: written by us, with placeholders for whatever a caller said.
    """
    return Template(statements()[name]).substitute(conditions=" AND ".join(conditions) or "TRUE")
