"""A child in a peer's own environment: the FastAPI application, guarded as the peer's documentation shows it.

Peers are found by name, because this module is read where none of them is installed.
"""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from typing import Any

from bench.charge import Effects
from bench.on_fastapi import fastapi_app
from bench.serving import serve


def _idemkit(app: Any, store: str, url: str) -> None:
    kit = import_module("idemkit")
    match store:
        case "postgresql":
            module = import_module("idemkit.backends.postgres")
            asyncio.run(module.init_pg(url))
            backend = module.PostgresBackend.from_url(url)
        case "redis":
            backend = import_module("idemkit.backends.redis").RedisBackend.from_url(url)
        case _:
            backend = kit.InMemoryBackend()
    config = kit.HttpConfig(scope_mode="single_tenant")
    app.add_middleware(kit.IdempotencyMiddleware, backend=backend, config=config)


def _fastapi_idempotency(app: Any, _store: str, _url: str) -> None:
    app.add_middleware(import_module("fastapi_idempotency").IdempotencyMiddleware)


def _fastapi_idempotency_key(app: Any, store: str, url: str) -> None:
    backends = "fastapi_idempotency_key.backends"
    backend: Any = None
    if store == "redis":
        backend = import_module(f"{backends}.redis").RedisBackend(redis_url=url)
    elif store == "sqlite":
        backend = import_module(f"{backends}.sqlite").SQLiteBackend(url)
    app.add_middleware(import_module("fastapi_idempotency_key").IdempotencyMiddleware, backend=backend)


def _asgi_idempotency_header(app: Any, store: str, url: str) -> None:
    backends = import_module("idempotency_header_middleware.backends")
    if store == "redis":
        backend = backends.RedisBackend(redis=import_module("redis.asyncio").Redis.from_url(url))
    else:
        backend = backends.MemoryBackend()
    middleware = import_module("idempotency_header_middleware").IdempotencyHeaderMiddleware
    app.add_middleware(middleware, backend=backend)


GUARDS = {
    "idemkit": _idemkit,
    "fastapi-idempotency": _fastapi_idempotency,
    "fastapi-idempotency-key": _fastapi_idempotency_key,
    "asgi-idempotency-header": _asgi_idempotency_header,
}


def main(peer: str, store: str, url: str = "") -> None:
    """Serve until standard input ends."""
    effects = Effects()
    app = fastapi_app(effects)
    GUARDS[peer](app, store, url)
    serve(app, effects)


if __name__ == "__main__":
    main(*sys.argv[1:])
