"""A Flask application as its documentation teaches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask, abort, jsonify, make_response, request, send_file, stream_with_context

from retrysafe.adapters.wsgi import RetrySafeMiddleware
from tests.servers.apps.steps import a_file, mark, pass_gate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask.typing import ResponseReturnValue

    from retrysafe import RetrySafe
    from retrysafe.adapters.wsgi.types import App


def _mark() -> None:
    mark(request.headers.get("X-Label", "unlabelled"))


def flask() -> Flask:
    """Make the application."""
    app = Flask(__name__)

    @app.post("/flask/charges")
    def make_charge() -> ResponseReturnValue:
        _mark()
        return jsonify(charged=request.get_json()["amount"]), 201

    @app.delete("/flask/charges/<int:number>")
    def delete_charge(number: int) -> ResponseReturnValue:
        _mark()
        return "", 204

    @app.route("/flask/stream", methods=["GET", "POST"])
    def stream() -> ResponseReturnValue:
        _mark()
        gate = request.headers.get("X-Gate")

        def parts() -> Iterator[bytes]:
            yield b"first;"
            if gate is not None:
                pass_gate(gate)
            yield f"after {request.path};".encode()

        return app.response_class(
            stream_with_context(parts()), mimetype="text/plain", headers={"Location": "/things/1"}
        )

    @app.route("/flask/file", methods=["GET", "POST"])
    def file() -> ResponseReturnValue:
        _mark()
        return send_file(a_file(), mimetype="text/plain")

    @app.post("/flask/cookies")
    def cookies() -> ResponseReturnValue:
        _mark()
        response = make_response(jsonify(cookies=2), 201)
        response.set_cookie("session", "one")
        response.set_cookie("csrf", "two")
        return response

    @app.post("/flask/refused")
    def refuse() -> ResponseReturnValue:
        _mark()
        abort(402)

    @app.post("/flask/broken")
    def break_down() -> ResponseReturnValue:
        _mark()
        raise RuntimeError("secret-detail")

    @app.get("/flask/hello")
    def hello() -> ResponseReturnValue:
        return jsonify(hello="world")

    return app


def room(guard: RetrySafe) -> tuple[App, App]:
    """Return the application with a guard and without one."""
    app = flask()
    app.wsgi_app = RetrySafeMiddleware(app.wsgi_app, guard=guard)  # type: ignore[method-assign]
    return app, flask()
