"""The charge on Flask."""

from __future__ import annotations

from typing import Any

from flask import Flask, request

from bench.charge import PATH, Effects


def flask_app(effects: Effects) -> Flask:
    """Make the application."""
    app = Flask("bench")

    @app.post(PATH)
    def charge() -> tuple[dict[str, Any], int]:
        asked = request.get_json()
        if not asked["amount"]:
            effects.hold()
        return effects.charge(asked["amount"], asked["currency"]), 201

    return app
