"""MariaDB, which comes from Debian: it has no wheel. And databases in one, a new one for each test."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path
from uuid import uuid4

import pymysql
import pymysql.cursors

from retrysafe.stores.mysql import migrate
from retrysafe.stores.mysql.location import settings_of
from tests.services import debian
from tests.services.service import Service, is_open_to_all, missing

# Whoever may connect, from loopback only. Grants are not known before they are read.
_ACCOUNT = """\
FLUSH PRIVILEGES;
CREATE USER tests@'127.0.0.1';
GRANT ALL PRIVILEGES ON *.* TO tests@'127.0.0.1' WITH GRANT OPTION;
CREATE USER tests@localhost;
GRANT ALL PRIVILEGES ON *.* TO tests@localhost WITH GRANT OPTION;
"""
_TABLES = ("mysql_system_tables.sql", "mysql_system_tables_data.sql")


def mariadb(*, durable: bool = False) -> Service:
    """A MariaDB that trusts everybody on loopback, and on its socket.

    Args:
        durable: whether a commit survives power loss; without, it survives kill -9 all the same.
    """
    known = debian.PROGRAMS["mariadbd"]
    found = known.path
    if found is None:
        missing("MariaDB", debian.install_line(known))
    # It refuses to run as root.
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
    copied = user is not None and not is_open_to_all(found)

    def home(service: Service) -> Path:
        return service.folder / "installed" if copied else found.parents[2]

    def command(service: Service, *further: str) -> list[str]:
        root = home(service)
        settings = {
            "datadir": f"{service.folder}/data",
            "tmpdir": str(service.folder),
            "socket": f"{service.folder}/socket",
            "pid-file": f"{service.folder}/pid",
            "bind-address": "127.0.0.1",
            "port": str(service.port),
            "lc-messages-dir": f"{root}/usr/share/mysql",
            "character-sets-dir": f"{root}/usr/share/mysql/charsets",
            "plugin-dir": f"{root}/usr/lib/mysql/plugin",
            "max-connections": "300",
            "skip-name-resolve": "1",
            "innodb-buffer-pool-size": "64M",
            "innodb-log-file-size": "32M",
            "innodb-flush-log-at-trx-commit": "1" if durable else "2",
            "innodb-doublewrite": "1" if durable else "0",
            "aria-log-file-size": "8M",
        }
        if not durable:
            # Making the tables of a test takes a third of the time.
            settings |= {"innodb-flush-method": "nosync", "innodb-file-per-table": "0", "sync-frm": "0"}
        told = [f"--{name}={value}" for name, value in settings.items()]
        return [str(root / "usr/sbin/mariadbd"), "--no-defaults", *told, *further]

    def prepare(service: Service) -> None:
        if copied and user is not None:
            _copy(found.parents[2], home(service), user)
        folder = home(service) / "usr/share/mysql"
        (service.folder / "data").mkdir()
        made = "".join((folder / name).read_text("utf-8", "replace") for name in _TABLES)
        script = service.folder / "bootstrap.sql"
        script.write_text(f"CREATE DATABASE mysql;\nUSE mysql;\n{made}{_ACCOUNT}")
        if user is not None:
            os.chown(service.folder / "data", user, -1)
        quickly = ("--bootstrap", "--innodb-flush-method=nosync")
        service.run("/bin/sh", "-c", f'exec "$@" <{script}', "sh", *command(service, *quickly))

    return Service(
        "mariadb",
        command=command,
        url=lambda service: f"mariadb://tests@{service.address}/mysql",
        answers=_answers,
        prepare=prepare,
        environment=lambda service: {
            "LD_LIBRARY_PATH": os.pathsep.join(map(str, home(service).glob("usr/lib/*-linux-gnu*"))),
            "TZ": "UTC",
        },
        user=user,
    )


def _copy(installed: Path, copy: Path, user: int) -> None:
    """Give a user a copy of what it may not reach: a checkout in root's home, say."""
    for part in ("usr/sbin/mariadbd", "usr/share/mysql", "usr/lib"):
        source, target = installed / part, copy / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        else:
            shutil.copy(source, target)
    for path in (copy, *copy.rglob("*")):
        os.chown(path, user, -1, follow_symlinks=False)


def _answers(service: Service) -> bool:
    try:
        connect(service.url).close()
    except pymysql.OperationalError:
        return False
    return True


def connect(url: str) -> pymysql.Connection[pymysql.cursors.Cursor]:
    """Connect to a database of a server of ours, in autocommit mode."""
    address, _, database = url.removeprefix("mariadb://tests@").partition("/")
    host, _, port = address.partition(":")
    return pymysql.connect(host=host, port=int(port), user="tests", database=database, autocommit=True)


class MariaDatabases:
    """Gives each test a database of its own, in a server that others use at the same time."""

    def __init__(self, url: str) -> None:
        """Connect.

        Args:
            url: the server's.
        """
        self._server = url.rpartition("/")[0]
        self._admin = connect(url)
        self._made: list[str] = []

    def take(self) -> str:
        """Return the URL of an empty database that nobody else uses."""
        name = f"tests_{uuid4().hex}"
        self._run(f"CREATE DATABASE {name}")
        return f"{self._server}/{name}"

    def take_made(self) -> str:
        """Return the URL of a database with the store's tables, and nothing in them.

        Making the tables costs ten times what emptying them does, so they go round.
        """
        if self._made:
            return self._made.pop()
        url = self.take()
        migrate(settings_of(url))
        return url

    def give_back(self, url: str) -> None:
        """Drop a database, whoever is still connected to it."""
        name = url.rpartition("/")[2]
        self._end_sessions(name)
        self._run(f"DROP DATABASE {name}")

    def give_back_made(self, url: str) -> None:
        """Empty the tables of a database for the next test."""
        name = url.rpartition("/")[2]
        self._end_sessions(name)
        for (table,) in self._run(f"SHOW TABLES FROM {name}"):
            if not str(table).startswith("retrysafe_"):
                self._run(f"DROP TABLE {name}.{table}")
            elif table != "retrysafe_migration":
                self._run(f"TRUNCATE {name}.{table}")
        self._made.append(url)

    def close(self) -> None:
        """Leave; the databases go with the server."""
        self._admin.close()

    def _end_sessions(self, name: str) -> None:
        for session in self._run("SHOW PROCESSLIST"):
            if session[3] != name:
                continue
            try:
                self._run(f"KILL {session[0]}")
            except pymysql.OperationalError as gone:
                assert gone.args[0] == 1094, gone  # noqa: PT017 - it has ended by itself

    def _run(self, statement: str) -> tuple[tuple[object, ...], ...]:
        with self._admin.cursor() as cursor:
            cursor.execute(statement)
            return tuple(cursor.fetchall())
