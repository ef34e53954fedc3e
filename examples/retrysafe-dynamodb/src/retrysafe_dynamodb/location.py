"""Stores by URL: ``dynamodb://checkpoints?region=eu-central-1&margin=5s``."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from retrysafe.errors import ConfigurationError
from retrysafe.stores.urls import parse_options, read_flag, read_seconds
from retrysafe_dynamodb.store import DynamoDBStore

_TABLE = re.compile(r"[A-Za-z0-9_.-]{3,255}")


def _read_duration(text: str) -> timedelta:
    return timedelta(seconds=read_seconds(text))


_READERS: dict[str, Callable[[str], Any]] = {
    "region": str,
    "endpoint": str,
    "create": read_flag,
    "shards": int,
    "margin": _read_duration,
    "threads": int,
    "timeout": _read_duration,
}


def from_url(url: str) -> DynamoDBStore:
    """Make a store from ``dynamodb://TABLE?options``; they are the arguments of :class:`DynamoDBStore`.

    Raises:
        ConfigurationError: the URL is wrong; every problem is listed.
    """
    table, _, query = url.partition("://")[2].partition("?")
    options, problems = parse_options(query, _READERS)
    if _TABLE.fullmatch(table) is None:
        problems.insert(0, f"{table!r} is no name of a table: write dynamodb://checkpoints?region=eu-central-1")
    if problems:
        raise ConfigurationError(problems)
    return DynamoDBStore(table, **options)
