"""Programs that have no wheel come from Debian's archive: unpacked beside the environment, by any user.

Nothing is installed, and no service is started. `make test` runs this; what the machine has already is used as it is.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

UNPACKED = Path(sys.prefix) / "debian"

_DEPENDS = [
    "depends",
    "--recurse",
    *(f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")),
]
_AT_MOST_SECONDS = 600


class Program(NamedTuple):
    """A program and what it consists of.

    Attributes:
        name: how it is asked for.
        file: where it is below the root of a file system.
        packages: what to unpack.
        needs: which of their dependencies to unpack, too; the others are on every Debian machine.
    """

    name: str
    file: str
    packages: tuple[str, ...]
    needs: str

    @property
    def path(self) -> Path | None:
        """Where it is, if it is."""
        found = [*Path("/").glob(self.file), *self.unpacked.glob(self.file)]
        return found[0] if found else None

    @property
    def unpacked(self) -> Path:
        """Where we unpack it."""
        return UNPACKED / self.name


PROGRAMS = {
    program.name: program
    for program in (
        Program("spin", "usr/bin/spin", ("spin",), "spin"),
        Program("gcc", "usr/bin/gcc", ("gcc", "libc6-dev"), r"gcc.*|cpp.*|binutils.*|lib.*|linux-libc-dev"),
        Program(
            "rabbitmq-server",
            "usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server",
            ("rabbitmq-server",),
            "erlang-.*",
        ),
        Program("pgbouncer", "usr/sbin/pgbouncer", ("pgbouncer",), r"libevent-.*|libc-ares2.*"),
        # Its tools are in other packages; the server makes its own tables.
        Program("mariadbd", "usr/sbin/mariadbd", ("mariadb-server-core",), "libaio1.*|liburing2"),
        # An old one; the wheel has the latest.
        Program("nats-server", "usr/sbin/nats-server", ("nats-server",), "nats-server"),
        Program(
            "redis-server", "usr/bin/redis-server", ("redis-server", "redis-tools"), "libatomic1|libjemalloc2|liblzf1"
        ),
    )
}


def environment() -> dict[str, str]:
    """Return an environment in which the programs find each other."""
    unpacked = [str(folder) for folder in sorted(UNPACKED.glob("*/usr/bin")) if folder.is_dir()]
    return {**os.environ, "PATH": os.pathsep.join([*unpacked, os.environ.get("PATH", os.defpath)])}


def install_line(*programs: Program) -> str:
    """Return the command that installs them."""
    packages = [package for program in programs for package in program.packages]
    return f"apt-get install --no-install-recommends {' '.join(packages)}"


def unpack(wanted: list[Program]) -> None:
    """Get programs and unpack them.

    Raises:
        OSError, subprocess.SubprocessError: there is no apt-get, no network, or no such package.
    """
    with tempfile.TemporaryDirectory(prefix="rs-debian-") as folder:
        apt = _Apt(Path(folder))
        for program in wanted:
            shutil.rmtree(program.unpacked, ignore_errors=True)
            # Renamed when it is whole.
            partial = program.unpacked.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            for archive in apt.download(program):
                _run("dpkg-deb", "--extract", str(archive), str(partial))
            _make_movable(partial, program.unpacked)
            partial.rename(program.unpacked)


class _Apt:
    """Debian's archive as the machine knows it, with lists of our own, as the machine's may be absent or old."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._options = [
            f"-oDir::State={folder}/state",
            "-oDir::State::status=/var/lib/dpkg/status",
            f"-oDir::Cache={folder}/cache",
            # Root's apt-get would become somebody who may not write here.
            "-oAPT::Sandbox::User=root",
            "-oAcquire::Retries=2",
            "-oAcquire::http::Timeout=20",
            "-oAcquire::https::Timeout=20",
        ]
        (folder / "state" / "lists" / "partial").mkdir(parents=True)
        (folder / "cache" / "archives" / "partial").mkdir(parents=True)
        # Some other archive of the machine's may be broken; what counts is whether ours has what we want.
        _run("apt-get", *self._options, "update", check=False)

    def download(self, program: Program) -> Iterator[Path]:
        """Return the archives of a program."""
        folder = self._folder / program.name
        folder.mkdir()
        lines = _run("apt-cache", *self._options, *_DEPENDS, *program.packages).splitlines()
        needed = {line for line in lines if re.fullmatch(program.needs, line) and ":" not in line}
        _run("apt-get", *self._options, "download", *sorted({*program.packages, *needed}), folder=folder)
        return folder.glob("*.deb")


def _make_movable(root: Path, final: Path) -> None:
    """Let programs look for their parts where they will be, and not in /usr."""
    for script in (*root.glob("usr/lib/erlang/bin/erl"), *root.glob("usr/lib/erlang/erts-*/bin/erl")):
        script.write_text(script.read_text().replace("/usr/lib/erlang", f"{final}/usr/lib/erlang"))
    compiler = root / "usr/bin/gcc"
    if compiler.exists():
        # The linker's scripts name /lib, which newer releases of Debian have only as a link.
        for name in ("lib", "lib64"):
            if not (root / name).exists():
                (root / name).symlink_to(f"usr/{name}")
        real = compiler.resolve().relative_to(root.resolve())
        libraries = next(root.glob("usr/lib/*-linux-gnu*")).relative_to(root)
        compiler.unlink()
        compiler.write_text(
            f"#!/bin/sh\n"
            f"root='{final}'\n"
            f'export LD_LIBRARY_PATH="$root/{libraries}" PATH="$root/usr/bin:$PATH"\n'
            f'exec "$root/{real}" --sysroot="$root" "$@"\n'
        )
        compiler.chmod(0o755)


def _run(*command: str, folder: Path | None = None, check: bool = True) -> str:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/bin", "/usr/sbin", "/bin", "/sbin"])
    return subprocess.run(
        command,
        cwd=folder,
        check=check,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_AT_MOST_SECONDS,
        env={**os.environ, "LC_ALL": "C", "PATH": path},
    ).stdout


def main() -> int:
    """Get what is missing; say in one line what it means where that cannot be done."""
    wanted = [program for program in PROGRAMS.values() if program.path is None]
    if not wanted:
        return 0
    print("getting", ", ".join(program.name for program in wanted), "from Debian, without installing them")
    try:
        unpack(wanted)
    except (OSError, subprocess.SubprocessError) as error:
        last = str(getattr(error, "output", None) or error).strip().splitlines()[-1]
        print(f"that failed ({last}); tests that need them will be skipped. As root: {install_line(*wanted)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
