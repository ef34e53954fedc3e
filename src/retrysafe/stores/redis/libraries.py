"""redis-py's clients for what has more than one server: they find the primary, or the node of a slot, by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from retrysafe.stores.redis.clients import Clients
from retrysafe.stores.redis.settings import Settings

Hosts = Sequence[tuple[str, int]]


def sentinel_clients(hosts: Hosts, name: str, who: Mapping[str, str | None], settings: Settings) -> Clients:
    """Ask Sentinels for the primary, with each new connection."""
    threads, loops = _library("sentinel"), _library("asyncio.sentinel")
    patience = _patience(settings)
    asked: dict[str, Any] = {"sentinel_kwargs": {**patience, **_given(who)}}
    told = {**_common(settings), "db": settings.db}
    return Clients(
        lambda: threads.Sentinel(list(hosts), **asked).master_for(name, **told),
        lambda: loops.Sentinel(list(hosts), **asked).master_for(name, **told),
        owned=True,
        waiting=settings.waiting if settings.wait else None,
    )


def cluster_clients(hosts: Hosts, settings: Settings) -> Clients:
    """Learn from any node of a Cluster where each slot is."""
    threads, loops = _library("cluster"), _library("asyncio.cluster")
    told = _common(settings)
    return Clients(
        lambda: threads.RedisCluster(startup_nodes=[threads.ClusterNode(*host) for host in hosts], **told),
        lambda: loops.RedisCluster(startup_nodes=[loops.ClusterNode(*host) for host in hosts], **told),
        owned=True,
    )


def _common(settings: Settings) -> dict[str, Any]:
    tls = settings.tls
    found: dict[str, Any] = {
        **_patience(settings),
        **_given({"username": settings.username, "password": settings.password}),
        "protocol": settings.protocol,
    }
    if tls is not None:
        found |= {
            "ssl": True,
            "ssl_ca_certs": tls.ca,
            "ssl_certfile": tls.cert,
            "ssl_keyfile": tls.key,
            "ssl_cert_reqs": "required" if tls.verify else "none",
            "ssl_check_hostname": tls.verify,
        }
    return found


def _patience(settings: Settings) -> dict[str, Any]:
    return {"socket_timeout": settings.timeout_seconds, "socket_connect_timeout": settings.timeout_seconds}


def _given(words: Mapping[str, str | None]) -> dict[str, str]:
    return {word: value for word, value in words.items() if value is not None}


def _library(module: str) -> Any:  # noqa: ANN401 - its types are of one version
    try:
        return import_module(f"redis.{module}")
    except ImportError as missing:
        raise ImportError("a Cluster and Sentinel need redis: pip install 'retrysafe[redis-store]'") from missing
