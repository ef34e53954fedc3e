"""A stored request as an environ, and an abandoned operation that is run again on a thread of ours (R9, R13)."""

from __future__ import annotations

import io
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults

import pytest

from retrysafe import SHARED, Event, RetrySafe, current_operation
from retrysafe.adapters.wsgi import RetrySafeMiddleware
from retrysafe.adapters.wsgi.rerun import nowhere, stored_environ
from retrysafe.protocol.model import StoredRequest
from retrysafe.runtime.events import Parked
from retrysafe.runtime.recovery import Scanner
from retrysafe.testing.asks import an_ask
from tests.adapters.guards import House
from tests.adapters.wsgi.server import Exchange, environ_of

if TYPE_CHECKING:
    from pathlib import Path

    from retrysafe.adapters.wsgi.types import Environ, StartResponse

REQUEST = StoredRequest(
    method="PUT",
    target=b"/caf%C3%A9/a%2Fb?x=%20&x=2",
    headers=((b"content-type", b"text/plain"), (b"accept", b"*/*"), (b"accept", b"text/html")),
    body=b"body",
    operation="PUT /caf%C3%A9/{thing}",
)


def validated(_: Environ, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b""]


def test_a_stored_request_is_an_environ_as_a_server_makes_it() -> None:
    """R13, PEP 3333."""
    environ = stored_environ(REQUEST)
    Exchange(dict(environ), strict=True).through(validated)
    assert environ["PATH_INFO"].encode("latin-1").decode() == "/café/a/b"
    assert (environ["RAW_URI"], environ["QUERY_STRING"]) == ("/caf%C3%A9/a%2Fb?x=%20&x=2", "x=%20&x=2")
    assert (environ["REQUEST_METHOD"], environ["CONTENT_LENGTH"]) == ("PUT", "4")
    assert (environ["CONTENT_TYPE"], environ["wsgi.input"].read()) == ("text/plain", b"body")
    assert environ["HTTP_ACCEPT"].startswith("*/*")


def test_nobody_hears_what_a_re_run_answers() -> None:
    """R13."""
    assert nowhere("200 OK", [])(b"x") is None


class Shop:
    """An application that can be made to hang, and remembers for whom it worked."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.called = threading.Event()
        self.status = "201 Created"
        self.closed = 0
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, environ: Environ, start_response: StartResponse) -> Any:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        operation = current_operation()
        assert operation is not None
        names = {name for name in environ if name.startswith("HTTP_")}
        self.calls.append((environ.get("shop.user"), body, operation.attempt, operation.recovering, names))
        self.called.set()
        if not operation.recovering:
            assert self.go_on.wait(20)
        start_response(self.status, [("Content-Type", "text/plain"), ("Content-Length", "4")])
        return self

    def __iter__(self) -> Any:
        return iter([b"ma", b"de"])

    def __len__(self) -> int:
        return 2

    def close(self) -> None:
        self.closed += 1


def restore(environ: Environ, principal: str) -> None:
    environ["shop.user"] = principal


def recovered(shop: Shop, path: str = "/again/1") -> Exchange:
    """Let an attempt look dead, look for it, and let its client retry."""
    house = House({"principal": lambda _: "alice", "restore_principal": restore})
    secrets: dict[str, Any] = {"HTTP_AUTHORIZATION": "Bearer secret", "HTTP_COOKIE": "a=secret", "HTTP_ACCEPT": "*/*"}
    hanging = Exchange(environ_of(path, **secrets))
    app = RetrySafeMiddleware(shop, guard=house.guard)
    dying = threading.Thread(target=hanging.through, args=(app,))
    dying.start()
    assert shop.called.wait(20)
    house.clock.advance(60)
    other = house.another_guard()
    there = RetrySafeMiddleware(shop, guard=other)
    engine = other.engine()
    Scanner(engine, other.policy_of, other._engines.reruns, namespace="default", interval_seconds=1).look()
    give_up_at = time.monotonic() + 20
    while house.states == ["running"] and time.monotonic() < give_up_at:
        time.sleep(0.001)
    retry = Exchange(environ_of(path, **secrets)).through(there)
    shop.go_on.set()
    dying.join(20)
    # The loser serves the winner's answer, or nothing (C4).
    assert (hanging.status, hanging.content) in {(retry.status, retry.content), (503, hanging.content)}
    other.close()
    house.guard.close()
    return retry


def test_an_abandoned_operation_is_run_again_for_its_principal() -> None:
    """R9, R13: with what was stored, and never with a credential; its response is closed like any other."""
    shop = Shop()
    retry = recovered(shop)
    assert (retry.status, retry.content, retry.replayed) == (201, b"made", True)
    client, rerun = shop.calls
    assert client[:4] == (None, b"{}", 1, False)
    assert rerun[:4] == ("alice", b"{}", 2, True)
    assert rerun[4] == {"HTTP_ACCEPT"}
    assert shop.closed >= 1


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_an_operation_whose_principal_cannot_be_restored_is_parked(status: str) -> None:
    """R13."""
    shop = Shop()
    shop.status = status
    assert recovered(shop).code == "outcome-unknown"
    assert len(shop.calls) == 2


def test_a_request_is_read_from_memory() -> None:
    """R13: as often as the application likes."""
    assert isinstance(stored_environ(REQUEST)["wsgi.input"], io.BytesIO)


def test_a_worker_that_serves_only_other_requests_recovers_what_others_left(tmp_path: Path) -> None:
    """R2: the scan begins with the first request of a process, whatever it is for."""
    url = f"sqlite:///{tmp_path}/store.db"
    dead = RetrySafe(url, principal=SHARED, scan=None, sinks=())
    ask = an_ask("left behind", lease_seconds=1.0)
    dead.engine().sync.run(lambda: dead.engine().sync.verbs.claim(ask))
    dead.close()
    parked = threading.Event()

    def hear(event: Event) -> None:
        if isinstance(event, Parked):
            parked.set()

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [])
        return [b"hello"]

    alive = RetrySafe(url, principal=SHARED, scan=timedelta(milliseconds=50), sinks=[hear])
    middleware = RetrySafeMiddleware(app, guard=alive)
    environ: Environ = {}
    setup_testing_defaults(environ)
    assert list(middleware(environ, nowhere)) == [b"hello"]
    assert parked.wait(60)
    alive.close()
