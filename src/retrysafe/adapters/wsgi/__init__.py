"""Any WSGI application: Flask, Django, Bottle, Pyramid, or your own. Sync all the way: no hidden event loop.

::

    app.wsgi_app = RetrySafeMiddleware(app.wsgi_app, guard=guard)  # Flask
    application = RetrySafeMiddleware(application, guard=guard)  # anything else
"""

from retrysafe.adapters.wsgi.middleware import RetrySafeMiddleware

__all__ = ["RetrySafeMiddleware"]
