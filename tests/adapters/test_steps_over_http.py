"""Steps, undo and status behind real frameworks: the handler is the operation, and asks for its steps."""

import asyncio
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from flask import Flask, jsonify
from flask import Response as FlaskResponse
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from retrysafe import Call, RetrySafe, current_operation, retry
from retrysafe.adapters.asgi import RetrySafeMiddleware
from retrysafe.adapters.transactions.sqlalchemy import SQLAlchemyTransactions
from retrysafe.adapters.wsgi import RetrySafeMiddleware as WsgiMiddleware
from retrysafe.cli.complaints import Complaint
from retrysafe.cli.hosting import Hosted

HONOURED = retry(key_retention=timedelta(days=1))
CALLS: list[str] = []
FAILURES: dict[str, int] = {}


async def areserve(call: Call, sku: str) -> str:
    return reserve(call, sku)


def reserve(call: Call, sku: str) -> str:
    CALLS.append("reserve")
    return f"held {sku}"


def release(call: Call, held: str | None, sku: str) -> None:
    assert (held, sku) == ("held book", "book")
    CALLS.append("release")


def charge(call: Call, cents: int) -> str:
    CALLS.append("charge")
    if FAILURES.get("charge", 0) > 0:
        FAILURES["charge"] -= 1
        raise ConnectionError
    return "paid"


@pytest.fixture(autouse=True)
def nothing_happened() -> None:
    CALLS.clear()
    FAILURES.clear()


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[RetrySafe]:
    made = RetrySafe(
        f"sqlite:///{tmp_path}/shop.db",
        principal=lambda request: request.header("x-user"),
        restore_principal=lambda *_: None,
        status="/orders/status",
        scan=timedelta(seconds=0.05),
        sinks=(),
    )
    made.protect("POST /orders", name="order", mode="steps", spent="undo")
    yield made
    made.close()


def _fastapi(guard: RetrySafe) -> Any:
    app = FastAPI()
    app.add_middleware(RetrySafeMiddleware, guard=guard)

    @app.post("/orders", status_code=201)
    async def order(cents: int) -> Any:
        op = current_operation()
        assert op is not None
        await op.step(areserve, "book", undo=release, name="reserve")
        if cents > 100:
            from fastapi import HTTPException

            raise HTTPException(422, "too dear")
        paid = await op.step(charge, cents, unknown=HONOURED)
        return {"paid": paid}

    @app.post("/plain")
    def plain() -> Any:
        return {}

    return app


def _fastapi_def(guard: RetrySafe) -> Any:
    """Handlers that are plain functions, which FastAPI runs in threads."""
    app = FastAPI()
    app.add_middleware(RetrySafeMiddleware, guard=guard)

    @app.post("/orders", status_code=201)
    def order(cents: int) -> Any:
        from fastapi import HTTPException

        op = current_operation()
        assert op is not None
        op.step(reserve, "book", undo=release)
        if cents > 100:
            raise HTTPException(422, "too dear")
        return {"paid": op.step(charge, cents, unknown=HONOURED)}

    return app


class _Served:
    """A client of an ASGI application on a loop of its own, which runs as long as a server's would."""

    def __init__(self, app: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._hosted = self._do(self._make(app))
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://shop"
        )
        self._do(self._hosted.start())

    async def _make(self, app: Any) -> Hosted:
        return Hosted(app)

    def _do(self, awaited: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(awaited, self._loop).result(60)

    def post(self, path: str, headers: dict[str, str]) -> Any:
        return self._do(self._client.post(path, headers=headers))

    def get(self, path: str, headers: dict[str, str]) -> Any:
        return self._do(self._client.get(path, headers=headers))

    def close(self) -> None:
        self._do(self._client.aclose())
        self._do(self._hosted.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()


class _Flask:
    """A client of a WSGI application that looks like the other one."""

    def __init__(self, guard: RetrySafe) -> None:
        app = Flask("shop")

        @app.post("/orders")
        def order() -> Any:
            from flask import request

            op = current_operation()
            assert op is not None
            op.step(reserve, "book", undo=release)
            if int(request.args["cents"]) > 100:
                return FlaskResponse("too dear", 422)
            return jsonify(paid=op.step(charge, int(request.args["cents"]), unknown=HONOURED)), 201

        app.wsgi_app = WsgiMiddleware(app.wsgi_app, guard)  # type: ignore[method-assign]
        self._client = app.test_client()

    def post(self, path: str, headers: dict[str, str]) -> Any:
        return self._client.post(path, headers=headers)

    def get(self, path: str, headers: dict[str, str]) -> Any:
        return self._client.get(path, headers=headers)


@pytest.fixture(params=["fastapi", "fastapi def", "flask"])
def client(request: pytest.FixtureRequest, guard: RetrySafe) -> Iterator[Any]:
    if request.param == "flask":
        yield _Flask(guard)
        return
    app = _fastapi(guard) if request.param == "fastapi" else _fastapi_def(guard)
    made = _Served(app)
    yield made
    made.close()


HEADERS = {"Idempotency-Key": "order-1", "X-User": "alice"}


def _json(answer: Any) -> Any:
    return answer.json if isinstance(answer.json, dict) else answer.json()


def _settled(client: Any, cents: int) -> Any:
    give_up_at = time.monotonic() + 30
    while True:
        answer = client.post(f"/orders?cents={cents}", headers=HEADERS)
        if answer.status_code != 409 or "in-progress" not in str(_json(answer)):
            return answer
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def test_an_order_is_made_of_steps_and_replayed(client: Any) -> None:
    """R4, S2."""
    assert client.post("/orders?cents=5", headers=HEADERS).status_code == 201
    again = client.post("/orders?cents=5", headers=HEADERS)
    assert (again.status_code, again.headers["idempotent-replayed"], _json(again)) == (201, "true", {"paid": "paid"})
    assert CALLS == ["reserve", "charge"]


def test_a_refusal_undoes_what_was_done_and_its_client_gets_the_answer(client: Any) -> None:
    """R7: at once."""
    assert client.post("/orders?cents=500", headers=HEADERS).status_code == 422
    assert CALLS == ["reserve", "release"]
    status = _json(client.get("/orders/status", headers=HEADERS))
    assert (status["status"], status["http_status"], status["new_key_safe"]) == ("undone", 422, True)


def test_a_failed_step_is_retried_by_the_scan_and_the_client_polls(client: Any) -> None:
    """R2, R8, R13, E: with the phase, and when to come again."""
    FAILURES["charge"] = 1
    first = client.post("/orders?cents=5", headers=HEADERS)
    assert (first.status_code, _json(first)["phase"]) == (409, "retrying")
    assert int(first.headers["retry-after"]) >= 1
    assert _settled(client, 5).status_code == 201
    assert CALLS == ["reserve", "charge", "charge"]


def test_the_status_is_its_own_caller_s_only(client: Any) -> None:
    """K4, K8: another principal's key names nothing, and nobody is told more than that."""
    client.post("/orders?cents=5", headers=HEADERS)
    mine = client.get("/orders/status", headers=HEADERS)
    assert (mine.status_code, _json(mine)["status"]) == (200, "done")
    other = client.get("/orders/status", headers={**HEADERS, "X-User": "bob"})
    assert other.status_code == 404
    assert client.get("/orders/status", headers={"X-User": "alice"}).status_code == 404
    assert client.get("/orders/status", headers={"Idempotency-Key": "order-1"}).status_code == 401


def test_a_session_that_commits_after_the_response_is_refused_at_start_up(tmp_path: Path) -> None:
    """R11: FastAPI runs the end of a `yield` dependency after the response has left."""
    url = f"sqlite:///{tmp_path}/shop.db"
    engine = create_engine(url)
    guard = RetrySafe(url, principal=lambda _: "alice", transactions=SQLAlchemyTransactions(engine), sinks=())
    guard.protect("POST /orders", mode="transaction")
    app = FastAPI()
    app.add_middleware(RetrySafeMiddleware, guard=guard)

    def session() -> Iterator[Session]:
        with Session(engine) as made:
            yield made
            made.commit()

    @app.post("/orders")
    def order(db: Annotated[Session, Depends(session)]) -> Any:
        return {}

    with pytest.raises(Complaint, match="after the response has left"):
        asyncio.run(Hosted(app).start())
    guard.close()
    engine.dispose()
