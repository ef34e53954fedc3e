"""A stored request as an ASGI scope, for a re-run that enters below authentication (R13)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from retrysafe.adapters.asgi.types import Scope
    from retrysafe.protocol.model import StoredRequest

# What belongs to the server or the application, not to one request. Starlette puts itself into "app".
_LASTING = ("app", "asgi", "extensions", "root_path", "scheme", "server", "state")


def scope_template(scope: Scope) -> Scope:
    """Return the parts of a scope that outlive one request."""
    return {name: scope[name] for name in _LASTING if name in scope}


def stored_scope(template: Scope, request: StoredRequest) -> Scope:
    """Make the scope of a stored request.

    Nobody is authenticated in it until the application restores the principal.
    """
    path, _, query = request.target.partition(b"?")
    state: dict[str, Any] | None = template.get("state")
    return {
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "scheme": "http",
        "root_path": "",
        "server": None,
        **template,
        "type": "http",
        "http_version": "1.1",
        "client": None,
        "method": request.method,
        "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": path,
        "query_string": query,
        "headers": list(request.headers),
        **({} if state is None else {"state": dict(state)}),
        # A server extension would be offered to a client that is not there.
        "extensions": {},
    }
