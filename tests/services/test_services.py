"""The real servers of the tests start, answer, come back with their data, and leave nothing behind."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path

import psycopg
import pytest

from tests.services import servers, written
from tests.services.processes import family, is_alive
from tests.services.service import PATIENCE_SECONDS, Service

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("postgres", "redis", "nats", "rabbitmq", "kafka")
DURABLE = ("postgres", "redis", "nats", "rabbitmq")


# Starts all, and waits to be killed; of one that is frozen at that time nothing may stay either.
_RUN = """
import sys
from tests.services import servers
kinds = sys.argv[1:]
services = [getattr(servers, kind)().__enter__() for kind in kinds]
for service in services:
    print(service.pid, service.folder)
services[0].freeze()
print("running", flush=True)
sys.stdin.read()
"""


def start(kind: str) -> Service:
    starts: Callable[[], Service] = getattr(servers, kind)
    return starts()


def until(condition: Callable[[], bool], what: str) -> None:
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at, f"still not so: {what}"
        time.sleep(0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_answers_its_clients(kind: str, request: pytest.FixtureRequest) -> None:
    """These fixtures are shared by all tests of a process."""
    service: Service = request.getfixturevalue(kind)
    asyncio.run(written.write(service))
    assert asyncio.run(written.read(service)) == written.WORD


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_listens_on_loopback_only(kind: str, request: pytest.FixtureRequest) -> None:
    """Whatever it opens besides the port for clients."""
    service: Service = request.getfixturevalue(kind)
    inodes = {_inode(link) for pid in family(service.pid) for link in Path(f"/proc/{pid}/fd").iterdir()}
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    listening = {fields[1].partition(":")[0] for fields in lines if fields[3] == "0A" and fields[9] in inodes}
    assert listening
    assert listening <= {"0100007F", "0" * 24 + "01000000"}


def _inode(link: Path) -> str:
    try:
        return str(link.readlink()).removeprefix("socket:[").removesuffix("]")
    except FileNotFoundError:
        return ""


@pytest.mark.parametrize("kind", DURABLE)
def test_a_server_keeps_what_it_confirmed_through_kill_9(kind: str) -> None:
    with start(kind) as service:
        port = service.port
        asyncio.run(written.write(service))
        service.restart()
        assert service.port == port
        assert asyncio.run(written.read(service)) == written.WORD


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_was_stopped_in_order_starts_again_and_leaves_nothing(kind: str) -> None:
    with start(kind) as service:
        for end in (service.stop, service.remove):
            processes = family(service.pid)
            assert service.pid in processes
            end()
            assert service.has_ended
            assert not any(map(is_alive, processes))
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", service.port), 5)
            if end == service.stop:
                service.start()
    assert not service.folder.exists()


def test_servers_go_down_with_a_test_run_that_is_killed() -> None:
    command = [sys.executable, "-c", _RUN, *KINDS]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        told = [line.split() for line in takewhile(lambda line: line != "running\n", run.stdout)]
        processes = {pid for root, _ in told for pid in family(int(root))}
        assert len(processes) > len(KINDS)
        run.send_signal(signal.SIGKILL)
    until(lambda: not any(map(is_alive, processes)), "all are gone")
    until(lambda: not any(Path(folder).exists() for _, folder in told), "and their folders")


def test_a_server_that_does_not_start_shows_why() -> None:
    with start("redis") as service:
        service.stop()
        (service.folder / "appendonlydir" / "appendonly.aof.1.incr.aof").write_bytes(b"no command\r\n" * 9)
        with pytest.raises(AssertionError, match="Bad file format"):
            service.start()


def test_sessions_of_postgres_freeze_with_it(own_postgres: Service) -> None:
    """They have sessions and groups of their own."""
    with psycopg.connect(own_postgres.url, autocommit=True) as connection:
        answered = threading.Event()

        def ask() -> None:
            connection.execute("SELECT 1")
            answered.set()

        own_postgres.freeze()
        asking = threading.Thread(target=ask)
        asking.start()
        assert not answered.wait(0.2)
        own_postgres.thaw()
        assert answered.wait(PATIENCE_SECONDS)
        asking.join()


def test_a_busy_session_of_postgres_dies_with_it_and_commits_stay(own_postgres: Service) -> None:
    """It would keep the data from the next server: PostgreSQL lets its sessions end what they are at."""
    with psycopg.connect(own_postgres.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (number INTEGER)")
    busy = psycopg.connect(own_postgres.url)

    def work() -> None:
        with pytest.raises(psycopg.OperationalError):
            busy.execute("INSERT INTO kept SELECT sum(number) FROM generate_series(1, 100000000000) AS number")

    working = threading.Thread(target=work)
    working.start()
    with psycopg.connect(own_postgres.url, autocommit=True) as connection:
        running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'INSERT%' AND state = 'active'"
        until(lambda: connection.execute(running).fetchone() == (1,), "the statement runs")
    own_postgres.restart()
    working.join(PATIENCE_SECONDS)
    busy.close()
    with psycopg.connect(own_postgres.url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
