"""A child: one ASGI application on one uvicorn worker."""

from __future__ import annotations

import sys

from bench.apps import make_app
from bench.serving import serve


def main(name: str, store_url: str = "") -> None:
    """Serve until standard input ends."""
    serve(*make_app(name, store_url or None))


if __name__ == "__main__":
    main(*sys.argv[1:])
