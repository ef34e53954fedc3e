"""All processes of a server as one: listed, stopped, killed; and killed, too, when the tests themselves are.

A server's children may have groups and sessions of their own (PostgreSQL's have), or lose their parent (RabbitMQ's do),
so that no single system call reaches them all.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

_IPC_RMID = 0
_GONE_SECONDS = 60.0


class _Process(NamedTuple):
    """What the kernel tells of a process."""

    pid: int
    is_alive: bool
    parent: int
    group: int
    session: int


def family(root: int) -> set[int]:
    """Return the processes that descend from one, or are of its group or session, and are not dead.

    Args:
        root: leads a session, and is not yet reaped; else its number could be somebody else's.
    """
    children: dict[int, set[int]] = {}
    members = set[int]()
    dead = set[int]()
    for each in _everybody():
        children.setdefault(each.parent, set()).add(each.pid)
        if root in {each.pid, each.group, each.session}:
            members.add(each.pid)
        if not each.is_alive:
            dead.add(each.pid)
    new = members
    while new := {child for pid in new for child in children.get(pid, ())} - members:
        members |= new
    return members - dead


def is_alive(pid: int) -> bool:
    """Tell whether a process still does, or holds, anything."""
    known = _look(pid)
    return known is not None and known.is_alive


def _everybody() -> Iterator[_Process]:
    with os.scandir("/proc") as found:
        for each in found:
            if each.name.isdecimal() and (known := _look(int(each.name))):
                yield known


def _look(pid: int) -> _Process | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as file:  # noqa: PTH123 - one of hundreds
            # A program's name may hold spaces and parentheses.
            fields = file.read().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # A zombie with threads has lost only its first one: the others still listen, for a moment.
    alive = fields[0] not in "ZX" or int(fields[17]) > 1
    return _Process(pid, alive, *map(int, fields[1:4]))


def freeze(root: int) -> set[int]:
    """Stop all, the first one first, until nobody is left who could start another; return them."""
    frozen = set[int]()
    while new := family(root) - frozen:
        for pid in sorted(new, key=lambda pid: pid != root):
            _signal(pid, signal.SIGSTOP)
        frozen |= new
    return frozen


def thaw(root: int) -> None:
    """Let all go on."""
    for pid in family(root):
        _signal(pid, signal.SIGCONT)


def kill(root: int) -> None:
    """Kill -9 all at once, and return when all are gone; the first one remains to be reaped."""
    killed = freeze(root) | family(root)
    for pid in killed:
        _signal(pid, signal.SIGKILL)
    give_up_at = time.monotonic() + _GONE_SECONDS
    while time.monotonic() < give_up_at and any(map(is_alive, killed)):
        time.sleep(0.002)
    _remove_shared_memory({root, *killed})


def _remove_shared_memory(creators: set[int]) -> None:
    """Remove the segments that nobody has attached any more: they outlive processes, and there may be only so many."""
    try:
        with open("/proc/sysvipc/shm") as file:  # noqa: PTH123 - as below
            rows = [line.split() for line in file][1:]
    except FileNotFoundError:
        return
    for row in rows:
        number, creator, attached = int(row[1]), int(row[4]), int(row[6])
        if creator in creators and not attached:
            ctypes.CDLL(None).shmctl(number, _IPC_RMID, None)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


class Keeper:
    """A process that outlives this one however it ends, kills what it was told of, and removes their folders."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-ISE", __file__],
            stdin=subprocess.PIPE,
            # Out of reach of Ctrl-C.
            start_new_session=True,
        )

    def watch(self, root: int, folder: str) -> None:
        """Look after a process."""
        self._tell(f"{root} {folder}\n")

    def forget(self, root: int) -> None:
        """Look after it no longer: it was reaped."""
        self._tell(f"{root}\n")

    def close(self) -> None:
        """Let it go; what is still watched is killed."""
        self._process.communicate()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()


def keep() -> None:
    """Read what a keeper is told until whoever tells it is gone."""
    watched: dict[int, str] = {}
    for line in sys.stdin:
        root, _, folder = line.rstrip("\n").partition(" ")
        if folder:
            watched[int(root)] = folder
        else:
            watched.pop(int(root), None)
    for pid, folder in watched.items():
        kill(pid)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    keep()
