"""What a run ran on, so that its numbers can be read later."""

from __future__ import annotations

import os
import platform
import sqlite3
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

_PACKAGES = (
    *("retrysafe", "msgspec", "uvicorn", "uvloop", "httptools", "gunicorn"),
    *("fastapi", "starlette", "pydantic", "flask", "django"),
    *("psycopg", "asyncpg", "hiredis", "redis", "asyncmy", "nats-py"),
)
_BLOCK = b"\0" * 8192
_SYNCS = 200


@dataclass(frozen=True, slots=True)
class Sync:
    """How long the file system takes to make 8 KB durable, which bounds every durable commit."""

    p50_ms: float
    p99_ms: float
    times: int


def sync_latency(directory: Path, times: int = _SYNCS) -> Sync:
    """Append blocks of 8 KB to a file, each followed by ``fdatasync``."""
    path = directory / "sync"
    waits: list[float] = []
    with path.open("wb", buffering=0) as file:
        for _ in range(times):
            file.write(_BLOCK)
            started_at = time.perf_counter()
            os.fdatasync(file.fileno())
            waits.append(1e3 * (time.perf_counter() - started_at))
    path.unlink()
    return Sync(median(waits), quantiles(waits, n=100)[98], times)


def yardstick() -> float:
    """Time a fixed piece of Python in milliseconds: how fast this machine is right now."""
    started_at = time.perf_counter()
    total = 0
    for number in range(200_000):
        total += number & 7
    return 1e3 * (time.perf_counter() - started_at)


def describe(directory: Path) -> dict[str, Any]:
    """Return versions and the machine's shape."""
    return {
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES} | {"sqlite": sqlite3.sqlite_version},
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "load_average": os.getloadavg()[0],
            "file_system": _file_system(directory),
        },
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _file_system(directory: Path) -> str:
    """Name the file system that holds a directory; the longest mount point that contains it wins."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    here = str(directory.resolve())
    holding = [(point, kind) for point, kind in mounts if here == point or here.startswith(point.rstrip("/") + "/")]
    return max(holding, key=lambda mount: len(mount[0]), default=("", "unknown"))[1]
