"""WSGI requests that are not guarded: the application gets the server's own objects (S8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from retrysafe import ConfigurationError, StoreUnavailable
from retrysafe.adapters.wsgi import RetrySafeMiddleware
from tests.adapters.guards import House
from tests.adapters.wsgi.server import environ_of

if TYPE_CHECKING:
    from retrysafe.adapters.wsgi.types import Environ, StartResponse

ENVIRONS: dict[str, Environ] = {
    "a read with a key": environ_of(method="GET"),
    "a HEAD": environ_of(method="HEAD"),
    "a write without a key": environ_of(key=None),
    "an exempt write with a key": environ_of("/exempt/1"),
    "an exempt write with a bad key": environ_of("/exempt/1", key="a b"),
    "a read with a bad key": environ_of(method="GET", key="a b"),
}


def start_response(*_: object) -> Any:
    raise AssertionError("nobody answers a request that is not guarded")


@pytest.mark.parametrize("environ", ENVIRONS.values(), ids=ENVIRONS)
def test_the_application_sees_the_very_objects_of_the_server(house: House, environ: Environ) -> None:
    """S8: not copies, not wrappers; nothing is read, looked up or added. So does the server."""
    house.guard.exempt("* /exempt/*")
    before, response = dict(environ), [b"the application's own"]
    seen: list[tuple[Any, Any]] = []

    def app(*arguments: Any) -> list[bytes]:
        seen.append(arguments)
        return response

    assert RetrySafeMiddleware(app, guard=house.guard)(environ, start_response) is response
    ((got_environ, got_start_response),) = seen
    assert got_environ is environ
    assert got_start_response is start_response
    assert environ == before
    assert (environ["wsgi.input"].reads, house.store.calls) == (0, {})


@pytest.mark.parametrize("error", [LookupError, StoreUnavailable], ids=["its own", "one of ours"])
def test_exceptions_of_an_unguarded_request_pass(house: House, error: type[Exception]) -> None:
    """S8: also one that we would raise ourselves, such as another guard's."""

    def app(_: Environ, __: StartResponse) -> list[bytes]:
        raise error("the application's")

    with pytest.raises(error, match="the application's"):
        RetrySafeMiddleware(app, guard=house.guard)(environ_of(key=None), start_response)


@pytest.mark.parametrize("hook", ["principal", "authorize_replay", "rebuild", "restore_principal"])
def test_what_cannot_be_awaited_is_told_at_once(hook: str) -> None:
    """Not at the first request."""

    async def later(*_: object) -> Any:
        return None

    house = House({hook: later})
    with pytest.raises(ConfigurationError, match=f"{hook} is async"):
        RetrySafeMiddleware(lambda *_: [], guard=house.guard)
