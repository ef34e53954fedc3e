"""The URL of a NATS store."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from retrysafe.errors import ConfigurationError
from retrysafe.stores.base import Durability
from retrysafe.stores.nats import NatsStore, location
from retrysafe.stores.urls import open_store


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What stores were made with."""
    found: list[dict[str, Any]] = []

    def make(servers: list[str], **settings: Any) -> dict[str, Any]:
        found.append({"servers": servers, **settings})
        return found[-1]

    monkeypatch.setattr(location, "NatsStore", make)
    return found


def test_every_host_has_the_credentials_of_the_first(made: list[dict[str, Any]]) -> None:
    location.from_url("nats://shop:a%40b@one:4222,two:4223/orders?replicas=3&timeout=2s&synced=true")
    [settings] = made
    assert settings["servers"] == ["nats://shop:a%40b@one:4222", "nats://shop:a%40b@two:4223"]
    assert (settings["bucket"], settings["replicas"], settings["synced"]) == ("orders", 3, True)
    assert settings["timeout"].total_seconds() == 2


def test_files_of_credentials_are_passed_on(made: list[dict[str, Any]]) -> None:
    location.from_url("tls://broker?creds=/etc/shop.creds&nkey=/etc/shop.nk")
    [settings] = made
    assert settings["servers"] == ["tls://broker"]
    assert settings["options"] == {"user_credentials": "/etc/shop.creds", "nkeys_seed": "/etc/shop.nk"}
    assert settings["bucket"] == "retrysafe"


def test_an_authority_of_one_s_own_is_loaded_at_once(made: list[dict[str, Any]]) -> None:
    authorities = ssl.get_default_verify_paths().cafile
    if authorities is None:
        pytest.skip("this machine has no certificates")
    location.from_url(f"tls://broker?tls_ca={authorities}")
    assert isinstance(made[0]["options"]["tls"], ssl.SSLContext)


@pytest.mark.parametrize(
    ("url", "durability"),
    [
        ("nats://broker", Durability.PROCESS),
        ("nats://broker?synced=true", Durability.NODE),
        ("nats://broker?replicas=3", Durability.QUORUM),
    ],
)
def test_what_a_write_survives_is_what_the_url_says_of_the_server(url: str, durability: Durability) -> None:
    """D3: a server that syncs every two minutes is not said to be durable."""
    store = open_store(url)
    assert isinstance(store, NatsStore)
    assert store.traits.durability is durability


def test_a_password_with_a_slash_is_not_repeated() -> None:
    """K8: its end stands where a bucket would."""
    with pytest.raises(ConfigurationError, match="the bucket has other than letters") as refused:
        open_store("nats://me:top/secret@broker:4222")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("nats://", "needs a server"),
        ("nats://broker?replicas=2", "2 replicas"),
        ("nats://broker?replicas=no", "write a whole number"),
        ("nats://broker?timeout=0s", "not over at once"),
        ("nats://broker?creds=", "path of a file"),
        ("tls://broker?tls_ca=/nowhere.pem", "no certificates"),
        ("nats://broker/a.b", "letters, digits"),
        ("nats://broker?replica=3", "did you mean 'replicas'"),
    ],
)
def test_what_is_wrong_is_said_with_its_fix(url: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        open_store(url)
