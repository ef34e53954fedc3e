"""Where a Redis store is: a URL, or clients that the application has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from retrysafe.errors import ConfigurationError
from retrysafe.stores.redis.clients import Clients, check_clients, is_cluster
from retrysafe.stores.redis.connections import Connections
from retrysafe.stores.redis.driver import RedisStore
from retrysafe.stores.redis.libraries import cluster_clients, sentinel_clients
from retrysafe.stores.redis.settings import Persistence, Settings, Tls
from retrysafe.stores.urls import parse_options, read_flag, read_seconds

_PORT, _SENTINEL_PORT = 6379, 26379
_FORM = "write redis://user:password@host:6379/0"


def from_url(url: str) -> RedisStore:
    """Make a store from a URL.

    - ``redis://user:password@host:6379/0``, or ``valkey://``; ``rediss://`` and ``valkeys://`` with TLS: connections of
      our own, one for each event loop, and a few for threads
    - ``redis+sentinel://host:26379,host2:26379/name-of-the-primary/0``: redis-py's, which ask Sentinel
    - ``redis+cluster://host:7000,host2:7000``: redis-py's, which know where each slot is

    Options: ``persistence=none|everysec|always``, ``wait=1``, ``prefix=rs``, ``timeout=5s``, ``pool=8``,
    ``protocol=2|3``; with TLS, ``ca=/path.pem``, ``cert=/path.pem``, ``key=/path.pem``, ``verify=true|false``; and
    ``sentinel_username``, ``sentinel_password``.

    Raises:
        ConfigurationError: the address or an option is wrong; every problem is listed.
    """
    parts = urlsplit(url)
    kind = parts.scheme.lower()
    options, problems = parse_options(parts.query, _READERS)
    hosts, more = _hosts(parts, _SENTINEL_PORT if "sentinel" in kind else _PORT)
    name, db, again = _path(parts, sentinel="sentinel" in kind)
    problems += more + again
    if "+" not in kind and len(hosts) > 1:
        problems.append(
            "several hosts are those of a Cluster, or of Sentinels: write redis+cluster:// or redis+sentinel://"
        )
    if "cluster" in kind and options.get("wait"):
        problems.append("wait= can't be kept in a Cluster, where each write may have another primary: leave it out")
    tls, wrong = _tls(options, wanted="rediss" in kind or "valkeys" in kind)
    problems += wrong
    if problems:
        raise ConfigurationError(problems)
    common = {
        "persistence": options.pop("persistence", Persistence.NONE),
        "prefix": options.pop("prefix", "rs"),
    }
    sentinel = {word: options.pop(f"sentinel_{word}", None) for word in ("username", "password")}
    host, port = hosts[0]
    if "timeout" in options:
        options["timeout_seconds"] = options.pop("timeout")
    settings = Settings(host=host, port=port, db=db, tls=tls, **_who(parts), **options)
    if "cluster" in kind:
        return RedisStore(cluster_clients(hosts, settings), cluster=True, **common)
    if "sentinel" in kind:
        return RedisStore(sentinel_clients(hosts, name, sentinel, settings), replicated=True, **common)
    return RedisStore(Connections(settings), replicated=bool(settings.wait), **common)


def from_clients(
    client: Any,  # noqa: ANN401 - redis-py's or valkey-py's
    async_client: Any = None,  # noqa: ANN401 - as above
    *,
    persistence: Persistence = Persistence.NONE,
    prefix: str = "rs",
) -> RedisStore:
    """Make a store of clients that the application has: redis-py's or valkey-py's, of a server, Sentinel or Cluster.

    They stay the application's: closing the store leaves them open.

    Args:
        client: for threads.
        async_client: for the application's event loop; without it the work of event loops is done in threads.
        persistence: what the server keeps (D3).
        prefix: of every key.

    Raises:
        ConfigurationError: a client is not what it should be.
    """
    problems = check_clients(client, async_client)
    if problems:
        raise ConfigurationError(problems)
    clients = Clients(lambda: client, lambda: async_client, owned=False)
    # Behind Sentinel a replica takes the place of a primary that ends, and may lack its last writes (D3).
    replicated = hasattr(getattr(client, "connection_pool", None), "sentinel_manager")
    return RedisStore(
        clients,
        persistence=Persistence(persistence),
        prefix=prefix,
        cluster=is_cluster(client),
        replicated=replicated,
    )


def _hosts(parts: SplitResult, port: int) -> tuple[list[tuple[str, int]], list[str]]:
    hosts: list[tuple[str, int]] = []
    for place in parts.netloc.rpartition("@")[2].split(","):
        one = urlsplit(f"//{place}")
        try:
            hosts.append((one.hostname or "localhost", one.port or port))
        except ValueError:
            return [("", 0)], [f"a port is a number up to 65535: {_FORM}"]
    return hosts, []


def _path(parts: SplitResult, *, sentinel: bool) -> tuple[str, int, list[str]]:
    """Read the name of a primary that Sentinel knows, and the number of the database."""
    words = [unquote(word) for word in parts.path.split("/") if word]
    name = words.pop(0) if sentinel and words else ""
    problems = ["the name of the primary is missing: write redis+sentinel://host:26379/mymaster"] * (
        sentinel and not name
    )
    db = words.pop(0) if words else "0"
    if words or parts.fragment or not (db.isascii() and db.isdigit()):
        problems.append(f"behind the host comes the number of a database: {_FORM}")
        db = "0"
    return name, int(db), problems


def _who(parts: SplitResult) -> Mapping[str, Any]:
    user, colon, password = parts.netloc.rpartition("@")[0].partition(":")
    return {"username": unquote(user) or None, "password": unquote(password) if colon else None}


def _tls(options: dict[str, Any], *, wanted: bool) -> tuple[Tls | None, list[str]]:
    told = {name: options.pop(name) for name in ("ca", "cert", "key", "verify") if name in options}
    if not wanted:
        return None, ["ca, cert, key and verify are about TLS: write rediss:// for redis://"] * bool(told)
    tls = Tls(**told)
    try:
        tls.context()
    except OSError as error:
        return None, [f"a file for TLS can't be used: {error}"]
    return tls, []


def _read_number(text: str, least: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise ValueError(f"write a whole number from {least}")
    return int(text)


def _read_timeout(text: str) -> float:
    seconds = read_seconds(text)
    if seconds <= 0:
        raise ValueError("write a time that is not over at once, such as 5s")
    return seconds


def _read_persistence(text: str) -> Persistence:
    try:
        return Persistence(text)
    except ValueError:
        raise ValueError("write none, everysec or always") from None


def _read_prefix(text: str) -> str:
    if not text or not text.isascii() or not text.isprintable() or set(text) & set("{} "):
        raise ValueError("write visible ASCII without braces and spaces")
    return text


def _read_protocol(text: str) -> int:
    if text not in {"2", "3"}:
        raise ValueError("write 2 or 3")
    return int(text)


_READERS: Mapping[str, Callable[[str], Any]] = MappingProxyType(
    {
        "persistence": _read_persistence,
        "wait": partial(_read_number, least=0),
        "pool": partial(_read_number, least=1),
        "prefix": _read_prefix,
        "timeout": _read_timeout,
        "protocol": _read_protocol,
        "ca": str,
        "cert": str,
        "key": str,
        "verify": read_flag,
        "sentinel_username": str,
        "sentinel_password": str,
    }
)
