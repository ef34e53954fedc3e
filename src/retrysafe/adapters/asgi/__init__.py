"""Any ASGI application: Starlette, FastAPI, Quart, Litestar, Falcon, or your own.

::

    app.add_middleware(RetrySafeMiddleware, guard=guard)  # Starlette, FastAPI
    app = RetrySafeMiddleware(app, guard=guard)  # anything else
"""

from retrysafe.adapters.asgi.middleware import RetrySafeMiddleware

__all__ = ["RetrySafeMiddleware"]
