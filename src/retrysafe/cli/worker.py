"""``retrysafe worker``: recover what dead processes left behind, beside the service or in its place."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from retrysafe.cli.complaints import Misuse
from retrysafe.cli.terminal import say

if TYPE_CHECKING:
    from retrysafe.cli.hosting import Hosted
    from retrysafe.runtime.guard import RetrySafe
    from retrysafe.runtime.worker import Worker


@click.command()
@click.argument("guard", metavar="MODULE:GUARD")
@click.option("--app", "app", metavar="MODULE:APP", help="The application that its operations belong to.")
@click.option("--queue", "queue_url", metavar="URL", help="A broker that carries hints; the scan stays on.")
@click.option("--parallel", default=16, show_default=True, type=click.IntRange(1, 1000), help="Operations at once.")
@click.option(
    "--scan", default=1.0, show_default=True, type=click.FloatRange(0.01, 3600), help="Seconds between looks."
)
@click.option("--health", "health_port", type=click.IntRange(1, 65535), help="Port of GET /healthz, on 127.0.0.1.")
@click.option("--health-host", default="127.0.0.1", show_default=True, help="Address of GET /healthz.")
@click.option("--only", "digest", hidden=True, metavar="DIGEST", help="Recover one operation and end.")
def worker(
    guard: str,
    *,
    app: str | None,
    queue_url: str | None,
    parallel: int,
    scan: float,
    health_port: int | None,
    health_host: str,
    digest: str | None,
) -> None:
    """Finish or undo the operations whose process died.

    MODULE:GUARD is the application's RetrySafe, such as shop:guard. Give --app where operations are HTTP requests: it
    is loaded and its lifespan is run, so that they run in it as they did before. Any number of workers may run.
    SIGTERM lets what runs end, and leaves the rest to others.
    """
    from retrysafe.cli.doctor.application import load  # noqa: PLC0415 - help is quick without it
    from retrysafe.cli.hosting import Hosted  # noqa: PLC0415
    from retrysafe.runtime.guard import RetrySafe  # noqa: PLC0415
    from retrysafe.runtime.worker import Worker  # noqa: PLC0415

    found: Any = load(guard)
    if not isinstance(found, RetrySafe):
        raise Misuse(
            f"{guard} is a {type(found).__name__}, not a RetrySafe", fixes=["name the guard, such as shop:guard"]
        )
    hosted = Hosted(None if app is None else load(app))
    alone = [sys.executable, "-m", "retrysafe", "worker", guard, *(() if app is None else ("--app", app)), "--only"]
    queue = None
    if queue_url is not None and digest is None:
        from retrysafe.runtime.queues import open_queue  # noqa: PLC0415

        queue = open_queue(queue_url, namespace=found.namespace, parallel=parallel)
    made = Worker(found, parallel=parallel, scan=timedelta(seconds=scan), queue=queue, alone=() if digest else alone)
    if digest is not None:
        asyncio.run(_recover_one(found, made, hosted, bytes.fromhex(digest)))
    else:
        asyncio.run(_work(found, made, hosted, health_host, health_port))


async def _work(guard: RetrySafe, made: Worker, hosted: Hosted, host: str, port: int | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await hosted.start()
    await made.start()
    answering = None if port is None else await asyncio.start_server(lambda r, w: _answer(made, r, w), host, port)
    say(json.dumps({"worker": "ready", "namespace": guard.namespace}), err=True)
    await stop.wait()
    if answering is not None:
        answering.close()
    await made.stop(guard.drain_seconds)
    await hosted.stop()
    guard.close()


async def _recover_one(guard: RetrySafe, made: Worker, hosted: Hosted, digest: bytes) -> None:
    await hosted.start()
    try:
        await made.recover_one(digest)
    finally:
        await hosted.stop()
        guard.close()


async def _answer(made: Worker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one probe of a supervisor, whatever it asks, with the worker's health."""
    try:
        async with asyncio.timeout(5):
            await reader.readuntil(b"\r\n\r\n")
            facts = made.health()
            body = json.dumps(facts).encode()
            head = f"HTTP/1.1 {'200 OK' if facts['ok'] else '503 Service Unavailable'}\r\n"
            kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + kind.encode() + body)
            await writer.drain()
    except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.close()
