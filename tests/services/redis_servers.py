"""Redis in its several forms: Valkey from a wheel, Redis 7 from Debian, a Cluster, and a pair behind Sentinel."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import redis as library

from tests.services import debian
from tests.services.service import PATIENCE_SECONDS, Service, missing, says

_PING = b"PING\r\n", b"+PONG"
_LAST_SLOT = 16_383
_KEPT = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")
PRIMARY = "tests"
"""What Sentinel calls the pair."""


def server(program: str, *told: str, libraries: Path | None = None, further_ports: int = 0) -> Service:
    """A server with an append-only file that is synced with each command.

    Args:
        program: its file.
        told: more of its command line; ``{0}`` is its first further port.
        libraries: where it finds what it needs.
        further_ports: how many it needs besides the one for clients.
    """

    def command(service: Service) -> list[str]:
        at = ["--port", str(service.port), "--bind", "127.0.0.1", "--dir", str(service.folder)]
        return [program, *at, *_KEPT, *(word.format(*service.further_ports) for word in told)]

    return Service(
        "redis",
        command=command,
        url=lambda service: f"redis://{service.address}/0",
        answers=lambda service: says(service.port, *_PING),
        environment=lambda _: {} if libraries is None else {"LD_LIBRARY_PATH": str(libraries)},
        further_ports=further_ports,
    )


def redis7() -> Service:
    """Debian's Redis, unpacked or installed."""
    known = debian.PROGRAMS["redis-server"]
    program = known.path
    if program is None:
        missing("Redis 7", debian.install_line(known))
    libraries = next(known.unpacked.glob("usr/lib/*-linux-gnu*"), None)
    return server(str(program), libraries=libraries)


class Cluster:
    """Three primaries without replicas, each with a third of the slots."""

    def __init__(self, program: str) -> None:
        told = ("--cluster-enabled", "yes", "--cluster-port", "{0}", "--cluster-node-timeout", "15000")
        self.nodes = [server(program, *told, further_ports=1) for _ in range(3)]
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for node in self.nodes:
                stack.enter_context(node)
            self._join([stack.enter_context(library.Redis(port=node.port)) for node in self.nodes])
            self._stack = stack.pop_all()
        return self

    def _join(self, clients: Sequence[library.Redis]) -> None:
        asks: list[Callable[..., Any]] = [client.execute_command for client in clients]
        share = (_LAST_SLOT + 1) // len(asks) + 1
        for number, ask in enumerate(asks):
            # Before it knows any other.
            ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            ask("CLUSTER", "ADDSLOTSRANGE", number * share, min(_LAST_SLOT, (number + 1) * share - 1))
        for other in self.nodes:
            for ask in (ask for ask, node in zip(asks, self.nodes, strict=True) if node is not other):
                ask("CLUSTER", "MEET", "127.0.0.1", other.port, other.further_ports[0])
        until(lambda: all(_is_whole(client, len(clients)) for client in clients))

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(node.address for node in self.nodes)}"


class Pair:
    """A primary, its replica, and one Sentinel that puts the replica in its place half a second after its end."""

    def __init__(self, program: str) -> None:
        self.primary = server(program, "--repl-diskless-sync-delay", "0")
        self._program = program
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.primary)
            follow = ("--replicaof", "127.0.0.1", str(self.primary.port))
            self.replica = stack.enter_context(server(self._program, *follow))
            with library.Redis(port=self.primary.port) as client:
                until(lambda: _replicas(client) == 1)
            self.sentinel = stack.enter_context(_sentinel(self._program, self.primary.port))
            self._until_known()
            self._stack = stack.pop_all()
        return self

    def _until_known(self) -> None:
        with library.Redis(port=self.sentinel.port) as client:
            ask: Callable[..., Any] = client.execute_command
            # It learns of the replica from the primary.
            until(lambda: len(ask("SENTINEL", "REPLICAS", PRIMARY)) == 1)

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        return f"redis+sentinel://{self.sentinel.address}/{PRIMARY}/0"


def until(holds: Callable[[], bool]) -> None:
    """Look again and again until it holds."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < give_up_at, "it never came to pass"
        time.sleep(0.01)


def _sentinel(program: str, port: int) -> Service:
    def prepare(service: Service) -> None:
        lines: Sequence[str] = (
            f"port {service.port}",
            "bind 127.0.0.1",
            f"dir {service.folder}",
            f"sentinel monitor {PRIMARY} 127.0.0.1 {port} 1",
            f"sentinel down-after-milliseconds {PRIMARY} 500",
            f"sentinel failover-timeout {PRIMARY} 2000",
        )
        (service.folder / "sentinel.conf").write_text("\n".join(lines) + "\n")

    return Service(
        "sentinel",
        command=lambda service: [program, str(service.folder / "sentinel.conf"), "--sentinel"],
        url=lambda service: f"redis://{service.address}",
        answers=lambda service: says(service.port, *_PING),
        prepare=prepare,
    )


def _is_whole(client: library.Redis, nodes: int) -> bool:
    ask: Callable[..., Any] = client.execute_command
    told: bytes = ask("CLUSTER", "INFO")
    return b"cluster_state:ok" in told and b"cluster_known_nodes:%d" % nodes in told


def _replicas(client: library.Redis) -> int:
    told: Any = client.info("replication")
    return sum(told.get(f"slave{number}", {}).get("state") == "online" for number in range(9))
