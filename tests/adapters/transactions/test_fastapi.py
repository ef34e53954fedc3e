"""Routes that would commit after their answer has left are found before the first request."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from functools import partial, wraps
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from retrysafe.adapters.transactions.fastapi import refuse_late_commits


def plain() -> Iterator[Session]:
    yield Session()


def generator() -> Generator[Session | None, None, None]:
    yield None


async def awaited() -> AsyncIterator[AsyncSession]:
    yield AsyncSession()


async def awaited_generator() -> AsyncGenerator[AsyncSession, None]:
    yield AsyncSession()


def connection() -> Iterator[sqlite3.Connection]:
    yield sqlite3.connect(":memory:")


class Factory:
    def __call__(self) -> Iterator[Session]:
        yield Session()


@wraps(plain)
def decorated() -> Iterator[Session]:
    yield from plain()


def whole() -> Session:
    return Session()


def other() -> Iterator[int]:
    yield 1


def unsaid() -> Any:
    yield Session()


def asks(session: Annotated[Any, Depends(plain)]) -> str:
    return "alice"


def nothing() -> None:
    return None


def _app(*dependencies: Any, path: str = "/orders") -> FastAPI:
    app = FastAPI()
    app.post(path, dependencies=list(dependencies))(nothing)
    return app


def _always(method: str, path: str) -> bool:
    return True


def _found(app: Any) -> list[str]:
    return [
        problem.partition(", which")[0].partition("depends on ")[2] for problem in refuse_late_commits(app, _always)
    ]


def test_a_generator_that_says_that_it_yields_a_session_is_found_in_all_its_forms() -> None:
    """R11: the end of such a dependency runs after the response has left."""
    for dependency in (plain, generator, awaited, awaited_generator, connection):
        assert _found(_app(Depends(dependency))) == [f"{__name__}.{dependency.__name__}"]
    for dependency in (partial(plain), decorated, partial(partial(decorated))):
        assert _found(_app(Depends(dependency))) == [f"{__name__}.plain"]
    assert _found(_app(Depends(Factory()))) == [f"{__name__}.Factory.__call__"]


def test_one_sentence_says_where_it_is_and_what_to_do() -> None:
    [problem] = refuse_late_commits(_app(Depends(plain), path="/orders/{number}"), _always)
    assert problem.startswith("POST /orders/{number} is guarded")
    assert "current_operation().session" in problem
    assert 'scope="function"' in problem


def test_it_is_found_below_other_dependencies_included_routers_and_mounted_applications() -> None:
    assert _found(_app(Depends(asks))) == [f"{__name__}.plain"]
    inner, outer, app = APIRouter(prefix="/{number}"), APIRouter(prefix="/orders"), FastAPI()
    inner.put("/lines")(nothing)
    outer.include_router(inner, dependencies=[Depends(awaited)])
    app.include_router(outer, prefix="/v1")
    app.mount("/old", _app(Depends(plain)))
    problems = refuse_late_commits(app, _always)
    assert [problem.partition(" is guarded")[0] for problem in problems] == [
        "PUT /v1/orders/{number}/lines",
        "POST /old/orders",
    ]


def test_what_ends_in_time_or_yields_nothing_of_the_kind_is_not_found() -> None:
    for dependency in (
        Depends(plain, scope="function"),
        Depends(whole),
        Depends(other),
        # Nobody can tell from outside; the binding refuses what it writes.
        Depends(unsaid),
        Depends(nothing),
    ):
        assert _found(_app(dependency)) == []


def test_only_guarded_routes_are_looked_at() -> None:
    app = _app(Depends(plain))
    app.get("/orders", dependencies=[Depends(plain)])(nothing)
    problems = refuse_late_commits(app, lambda method, path: (method, path) == ("GET", "/orders"))
    assert [problem.partition(" is guarded")[0] for problem in problems] == ["GET /orders"]


def test_an_application_of_another_framework_has_no_such_routes() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    assert _found(app) == []
    assert _found(None) == []
