"""What a server says about itself, and whether that is what its operator declared (D3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

from retrysafe.stores.base import Durability
from retrysafe.stores.redis.settings import Persistence

OLDEST = (6, 2)
_FSYNC = {"always": Persistence.ALWAYS, "everysec": Persistence.EVERYSEC, "no": Persistence.NONE}
_ORDER = tuple(Persistence)


class Facts(NamedTuple):
    """What a server says.

    Attributes:
        version: such as ``7.0.15``; a Valkey says which Redis it is like.
        persistence: what it keeps; None where we may not know.
        eviction: its policy when memory is full.
        replicas: how many are connected.
        is_cluster: whether it is one of a Cluster.
    """

    version: str
    persistence: Persistence | None
    eviction: str
    replicas: int
    is_cluster: bool


STATE = ("INFO",)
FSYNC = ("CONFIG", "GET", "appendfsync")


def facts(state: object, fsync: object) -> Facts | None:
    """Read the answers to :data:`STATE` and :data:`FSYNC`; None when the first was refused."""
    told = _pairs(state)
    if not told:
        return None
    synced = _pairs(fsync).get("appendfsync")
    persistence: Persistence | None = Persistence.NONE
    if told.get("aof_enabled") == "1":
        persistence = None if synced is None else _FSYNC.get(synced, Persistence.NONE)
    return Facts(
        version=told.get("redis_version", "0"),
        persistence=persistence,
        eviction=told.get("maxmemory_policy", "noeviction"),
        replicas=int(told.get("connected_slaves", "0")),
        is_cluster=told.get("cluster_enabled") == "1",
    )


def problems(found: Facts, declared: Persistence, *, cluster: bool) -> list[str]:
    """Say why a server can't hold checkpoints, or not as declared, each with the fix."""
    wrong: list[str] = []
    if tuple(int(number) for number in found.version.split(".")[:2]) < OLDEST:
        wrong.append(f"this server is Redis {found.version}: retrysafe needs 6.2 or later, or Valkey")
    if found.eviction != "noeviction":
        wrong.append(
            f"the server evicts keys when its memory is full ({found.eviction}), and their operations would run twice: "
            "CONFIG SET maxmemory-policy noeviction"
        )
    if found.is_cluster and not cluster:
        wrong.append("the server is one of a Cluster: write redis+cluster:// for redis://")
    if found.persistence is not None and _ORDER.index(found.persistence) < _ORDER.index(declared):
        fix = f"CONFIG SET appendonly yes and appendfsync {declared}, or declare persistence={found.persistence}"
        wrong.append(f"persistence={declared} is declared, and the server keeps less ({found.persistence}): {fix}")
    return wrong


def durability(declared: Persistence, *, replicated: bool) -> Durability:
    """Say what an acknowledged write survives.

    Args:
        declared: what the server keeps.
        replicated: whether a replica may take the server's place: it may lack the latest writes, also those for which
            other replicas were waited.
    """
    match declared:
        case Persistence.NONE:
            return Durability.PROCESS
        case Persistence.EVERYSEC:
            return Durability.PERIODIC
        case Persistence.ALWAYS:
            return Durability.REPLICATED if replicated else Durability.NODE


def _pairs(reply: object) -> Mapping[str, str]:
    """Read names and values, however a client has taken them apart."""
    match reply:
        case bytes() | str():
            text = reply.decode() if isinstance(reply, bytes) else reply
            lines = (line.partition(":") for line in text.splitlines() if ":" in line)
            return {name: value for name, _, value in lines}
        case Mapping():
            mapping = cast("Mapping[object, object]", reply)
            return {_text(name): _text(value) for name, value in mapping.items()}
        case list():
            flat = cast("list[object]", reply)
            return {_text(name): _text(value) for name, value in zip(flat[::2], flat[1::2], strict=False)}
        case _:
            return {}


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
