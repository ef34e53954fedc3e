"""Checks of an application: where its guard stands, and how it is set up."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import fastapi
import fastapi.security
import flask
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware

from retrysafe import SHARED, RetrySafe
from retrysafe.adapters.asgi import RetrySafeMiddleware
from retrysafe.adapters.wsgi import RetrySafeMiddleware as WsgiMiddleware
from retrysafe.cli.complaints import Complaint, Misuse
from retrysafe.cli.doctor.application import application_checks, layers, load, store_url_of
from retrysafe.cli.doctor.findings import Finding, Level
from tests.cli.conftest import Run, Shop


def _guard(store: str = "memory://", **options: Any) -> RetrySafe:
    options.setdefault("principal", lambda request: "alice")
    return RetrySafe(store, sinks=(), **options)


def _found(app: Any, check: str) -> list[Finding]:
    return [finding for finding in application_checks(app) if finding.check == check]


def _starlette(*names: str) -> Starlette:
    """Make an application whose middlewares are named outermost first."""
    classes: dict[str, Middleware] = {
        "guard": Middleware(RetrySafeMiddleware, guard=_guard()),
        "auth": Middleware(AuthenticationMiddleware, backend=object()),  # type: ignore[arg-type] # never asked
        "cors": Middleware(CORSMiddleware),
        "gzip": Middleware(GZipMiddleware),
    }
    return Starlette(middleware=[classes[name] for name in names])


def test_a_guard_outside_of_authentication_is_a_finding() -> None:
    """K5."""
    [finding] = _found(_starlette("guard", "gzip", "auth"), "order")
    assert finding.level is Level.WARN
    assert "AuthenticationMiddleware" in finding.text
    assert [row.level for row in _found(_starlette("auth", "gzip", "guard"), "order")] == [Level.OK]
    assert [row.level for row in _found(_starlette("guard"), "order")] == [Level.OK]


def test_the_order_is_that_of_calls_to_add_middleware() -> None:
    """K5."""
    app = fastapi.FastAPI()
    app.add_middleware(RetrySafeMiddleware, guard=_guard())
    app.add_middleware(AuthenticationMiddleware, backend=object())  # type: ignore[arg-type] # never asked
    assert [row.level for row in _found(app, "order")] == [Level.OK]
    app = fastapi.FastAPI()
    app.add_middleware(AuthenticationMiddleware, backend=object())  # type: ignore[arg-type] # never asked
    app.add_middleware(RetrySafeMiddleware, guard=_guard())
    assert [row.level for row in _found(app, "order")] == [Level.WARN]


def test_a_guard_that_wraps_the_whole_application_is_outside_of_everything() -> None:
    """K5."""
    assert [row.level for row in _found(RetrySafeMiddleware(_starlette("auth"), _guard()), "order")] == [Level.WARN]


def test_a_guard_outside_of_cors_is_a_finding() -> None:
    """S4."""
    [cors, order] = _found(_starlette("guard", "cors"), "order")
    assert "CORSMiddleware" in cors.text
    assert (cors.level, order.level) == (Level.WARN, Level.OK)


def test_authentication_in_fastapi_routes_is_told() -> None:
    """K5."""
    app = fastapi.FastAPI()
    app.add_middleware(RetrySafeMiddleware, guard=_guard())
    bearer = fastapi.security.HTTPBearer()

    def caller(token: Annotated[object, fastapi.Depends(bearer)]) -> object:
        return token

    def charge(who: object) -> None:
        """Charge."""

    charge.__annotations__["who"] = Annotated[object, fastapi.Depends(caller)]
    app.post("/charges")(charge)
    assert [row.level for row in _found(app, "order")] == [Level.OK, Level.INFO]


def test_one_scope_for_all_callers_is_a_finding() -> None:
    """K5."""
    assert [row.level for row in _found(_guard(principal=SHARED), "principal")] == [Level.WARN]
    assert [row.level for row in _found(_guard(), "principal")] == [Level.OK]


def test_again_without_a_way_to_restore_the_principal_is_a_finding() -> None:
    """R13."""
    guard = _guard()
    assert [row.level for row in _found(guard, "re-runs")] == [Level.OK]
    guard.protect("PUT /orders/{id}", mode="again")
    [finding] = _found(guard, "re-runs")
    assert finding.level is Level.WARN
    assert "PUT /orders/{id}" in finding.text
    restoring = _guard(restore_principal=lambda scope, principal: None)
    restoring.protect("PUT /orders/{id}", mode="again")
    assert [row.level for row in _found(restoring, "re-runs")] == [Level.OK]


def test_keys_that_nothing_requires_are_told() -> None:
    """K7."""
    guard = _guard()
    assert [row.level for row in _found(guard, "keys")] == [Level.INFO]
    guard.protect("POST /charges", require_key=True)
    assert [row.level for row in _found(guard, "keys")] == [Level.OK]


def test_a_scan_that_is_off_is_told() -> None:
    assert [row.level for row in _found(_guard(scan=None), "recovery scan")] == [Level.INFO]
    assert _found(_guard(), "recovery scan") == []


def test_a_memory_store_is_a_finding() -> None:
    assert [row.level for row in _found(_guard(), "durability")] == [Level.WARN]


def test_an_application_without_a_guard_is_a_failure() -> None:
    assert [row.level for row in application_checks(_starlette("gzip"))] == [Level.FAIL]
    assert [row.level for row in application_checks(object())] == [Level.FAIL]


def test_flask_is_looked_through() -> None:
    app = flask.Flask("shop")
    guard = _guard()
    app.wsgi_app = WsgiMiddleware(app.wsgi_app, guard)  # type: ignore[method-assign]
    assert guard in [layer.guard for layer in layers(app)]
    assert _found(app, "order")


def test_the_store_of_the_guard_is_found_when_it_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a b.db"
    app = RetrySafeMiddleware(_starlette(), _guard(f"sqlite:///{path}?synchronous=normal"))
    assert store_url_of(app) == f"sqlite:///{tmp_path}/a%20b.db?synchronous=normal"
    assert store_url_of(_starlette("guard")) is None
    assert not path.exists(), "looking opens nothing"


# Loading it.


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory that is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if name.startswith("shop_"):
            del sys.modules[name]


def test_a_module_is_found_in_the_working_directory(folder: Path, run: Run, shop: Shop) -> None:
    shop.claim("one")
    (folder / "shop_well.py").write_text(
        "from retrysafe import RetrySafe\n"
        f"guard = RetrySafe({shop.url!r}, principal=lambda request: 'alice')\n"
        "guard.protect('POST /charges', require_key=True)\n"
    )
    outcome = run("doctor", "--app", "shop_well:guard")
    assert f"ok    store       sqlite:///{shop.path}" in outcome.stdout, "the guard names the store"
    assert "ok    schema" in outcome.stdout
    assert "ok    principal" in outcome.stdout


def test_what_cannot_be_named_is_usage(folder: Path) -> None:
    (folder / "shop_named.py").write_text("application = object()\n")
    for target, words in {
        "shop_named": "is not MODULE:ATTR",
        "shop_nowhere:app": "there is no module shop_nowhere",
        "shop_named:aplication": "did you mean 'application'?",
    }.items():
        with pytest.raises(Misuse, match=words.replace("?", r"\?")):
            load(target)
    assert load("shop_named:application") is not None


@pytest.mark.parametrize("line", ["1 / 0", "raise SystemExit(3)", "import shop_missing_dependency"])
def test_a_module_that_fails_is_a_failure_with_its_line(folder: Path, run: Run, line: str) -> None:
    (folder / "shop_broken.py").write_text(f"\n{line}\n")
    with pytest.raises(Complaint, match="importing shop_broken fails"):
        load("shop_broken:app")
    outcome = run("doctor", "--app", "shop_broken:app")
    assert outcome.exit_code == 1
    assert "shop_broken.py:2" in outcome.stderr
