"""Mode ``transaction`` behind real frameworks, with their own way to have a session in hand."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import httpx
import pytest
import sqlalchemy
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections
from django.http import HttpRequest, JsonResponse
from django.test import override_settings
from django.urls import path
from fastapi import BackgroundTasks, Depends, FastAPI
from flask import Flask
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from retrysafe import ConfigurationError, State, current_operation
from retrysafe.adapters.asgi import RetrySafeMiddleware
from retrysafe.adapters.transactions.sqlalchemy import SQLAlchemyTransactions
from retrysafe.adapters.wsgi import RetrySafeMiddleware as WsgiMiddleware
from tests.adapters.transactions.conftest import Found
from tests.adapters.transactions.places import INSERT, Place

# As every project has it; it gives responses their Content-Length.
COMMON = "django.middleware.common.CommonMiddleware"
INSERTED = sqlalchemy.text(INSERT)


def of_the_operation() -> Any:
    operation = current_operation()
    assert operation is not None
    return operation.session


def _ask(app: Any, path: str = "/orders", key: str = "k") -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return await client.post(path, headers={"Idempotency-Key": key})

    return asyncio.run(ask())


def _ask_wsgi(app: Any, path: str = "/orders", key: str = "k") -> httpx.Response:
    with httpx.Client(transport=httpx.WSGITransport(app, raise_app_exceptions=False), base_url="http://shop") as client:
        return client.post(path, headers={"Idempotency-Key": key})


@pytest.fixture
def place(found: Found) -> Place:
    place = found("sqlalchemy psycopg")
    place.guard.protect("POST /*", name="order", mode="transaction")
    return place


@pytest.fixture
def maker(place: Place) -> Iterator[sessionmaker[Session]]:
    """The application's sessions, beside those of the binding."""
    engine = sqlalchemy.create_engine(f"postgresql+psycopg://{place.url.partition('://')[2]}")
    yield sessionmaker(engine)
    engine.dispose()


def test_a_fastapi_route_uses_the_operations_session_in_its_thread(place: Place) -> None:
    """R11, S1."""
    app = FastAPI()
    app.add_middleware(RetrySafeMiddleware, guard=place.guard)

    @app.post("/orders", status_code=201)
    def order(session: Annotated[Session, Depends(of_the_operation)]) -> dict[str, bool]:
        session.execute(INSERTED)
        return {"ok": True}

    answers = [_ask(app) for _ in range(2)]
    assert [(answer.status_code, answer.json()) for answer in answers] == [(201, {"ok": True})] * 2
    assert (place.effects, place.state) == (1, State.DONE)


def test_a_yield_dependency_that_says_nothing_of_its_session_is_refused_where_it_writes(
    place: Place, maker: sessionmaker[Session]
) -> None:
    """R11: nothing of it becomes durable, neither before the answer nor after it."""
    app = FastAPI()
    app.add_middleware(RetrySafeMiddleware, guard=place.guard)

    def unsaid():  # type: ignore[no-untyped-def]  # noqa: ANN202 - that is the point
        with maker() as session:
            yield session
            session.commit()

    @app.post("/orders", status_code=201)
    def order(session: Annotated[Any, Depends(unsaid)]) -> dict[str, bool]:
        session.execute(INSERTED)
        return {"ok": True}

    assert _ask(app).status_code == 500
    assert (place.effects, place.state) == (0, State.RELEASED)


def test_what_runs_behind_the_answer_has_a_session_of_its_own(place: Place, maker: sessionmaker[Session]) -> None:
    """S7: a background task is outside of the operation."""
    app = FastAPI()
    app.add_middleware(RetrySafeMiddleware, guard=place.guard)

    def notify() -> None:
        with maker.begin() as session:
            session.execute(INSERTED)

    @app.post("/orders", status_code=201)
    async def order(tasks: BackgroundTasks) -> None:
        of_the_operation().execute(INSERTED)
        tasks.add_task(notify)

    assert [_ask(app).status_code for _ in range(2)] == [201, 201]
    assert place.effects == 2


@pytest.mark.parametrize("kind", ["async sqlalchemy asyncpg", "asyncpg"])
def test_an_async_route_uses_a_session_of_its_loop(kind: str, found: Found) -> None:
    """R11."""
    place = found(kind)
    place.guard.protect("POST /*", name="order", mode="transaction")
    app = FastAPI()
    app.add_middleware(RetrySafeMiddleware, guard=place.guard)
    assert place.loop is not None

    @app.post("/orders", status_code=201)
    async def order() -> dict[str, bool]:
        await place.insert(of_the_operation())
        return {"ok": True}

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
            return await client.post("/orders", headers={"Idempotency-Key": "k"})

    assert [place.loop.run(ask()).status_code for _ in range(2)] == [201, 201]
    assert (place.effects, place.state) == (1, State.DONE)


@pytest.mark.parametrize("is_around", [False, True])
def test_an_application_with_a_late_dependency_does_not_start(
    place: Place, maker: sessionmaker[Session], is_around: bool
) -> None:
    """R11: it is told before the first request, with the fix."""
    app = FastAPI()
    served: Any = RetrySafeMiddleware(app, place.guard) if is_around else app
    if not is_around:
        app.add_middleware(RetrySafeMiddleware, guard=place.guard)

    async def late() -> AsyncIterator[Session]:
        with maker() as session:
            yield session

    @app.post("/orders")
    def order(session: Annotated[Session, Depends(late)]) -> None: ...

    async def start() -> str:
        told: list[Any] = []

        async def receive() -> Any:
            return {"type": "lifespan.startup"}

        async def send(message: Any) -> None:
            told.append(message)

        try:
            await served({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
        except ConfigurationError as error:
            told.append({"message": str(error)})
        return " ".join(str(message.get("message")) for message in told)

    assert "current_operation().session" in asyncio.run(start())


def test_a_flask_view_finds_its_session_where_it_always_does(place: Place, maker: sessionmaker[Session]) -> None:
    """R11: the session of the thread is the operation's."""
    db = scoped_session(maker)
    place.rebind(SQLAlchemyTransactions(db))
    place.guard.protect("POST /*", name="order", mode="transaction")
    app = Flask(__name__)

    @app.post("/orders")
    def order() -> tuple[dict[str, bool], int]:
        assert of_the_operation() is db()
        db.execute(INSERTED)
        return {"ok": True}, 201

    @app.post("/refused")
    def refused() -> tuple[dict[str, bool], int]:
        db.execute(INSERTED)
        return {"ok": False}, 409

    @app.teardown_appcontext
    def forget(_: BaseException | None) -> None:
        db.remove()

    guarded = WsgiMiddleware(app, place.guard)
    assert [_ask_wsgi(guarded).status_code for _ in range(2)] == [201, 201]
    assert _ask_wsgi(guarded, "/refused", "another").status_code == 409
    assert place.effects == 1


@pytest.mark.parametrize("kind", ["django sqlite", "django psycopg"])
def test_a_django_view_uses_its_models_connection(kind: str, found: Found) -> None:
    """R11: Django closes old connections when a request begins and ends, and never one of an open transaction."""
    place = found(kind)
    alias: str = place.binding._using
    place.guard.protect("POST /*", name="order", mode="transaction")

    def order(request: HttpRequest) -> JsonResponse:
        with connections[alias].cursor() as cursor:
            cursor.execute(INSERT)
        return JsonResponse({"ok": True}, status=409 if request.path == "/refused" else 201)

    class Urls:
        urlpatterns = (path("orders", order), path("refused", order), path("fails", _fail(order)))

    with override_settings(ROOT_URLCONF=Urls, ALLOWED_HOSTS=["*"], MIDDLEWARE=[COMMON]):
        guarded = WsgiMiddleware(WSGIHandler(), place.guard)
        assert [_ask_wsgi(guarded).status_code for _ in range(2)] == [201, 201]
        assert place.effects == 1
        assert _ask_wsgi(guarded, "/refused", "another").status_code == 409
        assert _ask_wsgi(guarded, "/fails", "yet-another").status_code == 500
        # In a thread of the server's, which has a connection of its own.
        answers: list[int] = []

        def serve() -> None:
            answers.append(_ask_wsgi(guarded, "/orders", "threaded").status_code)
            connections[alias].close()

        thread = threading.Thread(target=serve)
        thread.start()
        thread.join(60)
        assert answers == [201]
    assert place.effects == 2


def _fail(view: Callable[[HttpRequest], JsonResponse]) -> Callable[[HttpRequest], JsonResponse]:
    def failing(request: HttpRequest) -> JsonResponse:
        view(request)
        raise ValueError("no")

    return failing
