"""A client with one intent: a key, a label in the ledger, and requests that differ only where a test says so."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers import wire
from tests.servers.apps import steps as to

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.servers.apps.steps import Step
    from tests.servers.harness import Kind, Server
    from tests.servers.wire import Connection, HeaderPairs, Reply

Headers = list[tuple[str, str | bytes]]
BODY = b'{"amount": 100, "note": "a-stored-payload"}'
_UNSET: Any = object()


def only(kinds: Sequence[Kind]) -> pytest.MarkDecorator:
    """Run a test on some of the servers."""
    return pytest.mark.parametrize("server", kinds, indirect=True, ids=str)


@dataclass
class Case:
    """One intent of one caller against one server.

    Attributes:
        server: the server.
        key: the idempotency key; whole it must never be seen again (K8).
        label: names the effect in the ledger.
        token: who calls.
    """

    server: Server
    key: str = field(default_factory=lambda: f"secret-key-{uuid.uuid4()}")
    label: str = field(default_factory=lambda: f"effect-{uuid.uuid4()}")
    token: str | None = "alice-1"

    @property
    def effects(self) -> int:
        """How often the effect happened."""
        return self.server.effects(self.label)

    @property
    def effect(self) -> Step:
        """The step that makes the effect happen."""
        return to.effect(self.label)

    @property
    def usual(self) -> list[Step]:
        """An effect and a response that says which effect it was."""
        headers = [
            ("Content-Type", "application/json"),
            ("Location", f"/charges/{self.label}"),
            ("X-Twice", "one"),
            ("Set-Cookie", "session=secret-cookie"),
            ("X-Between", "yes"),
            ("X-Twice", "two"),
            ("Set-Cookie", "csrf=secret-cookie"),
        ]
        return [self.effect, to.respond(201, json.dumps({"made": self.label}), headers)]

    def headers(
        self,
        steps: Iterable[Step] | None = None,
        *,
        key: str | None = _UNSET,
        token: str | None = _UNSET,
        kind: str | None = "application/json",
        more: Iterable[tuple[str, str | bytes]] = (),
    ) -> Headers:
        """Return the header fields of a request.

        Args:
            steps: what the handler does; by default the usual.
            key: another key, or None for no key.
            token: another token, or None for none.
            kind: the media type.
            more: further fields.
        """
        pairs: Headers = [(to.HEADER, to.encode(self.usual if steps is None else steps)), ("X-Label", self.label)]
        key = self.key if key is _UNSET else key
        token = self.token if token is _UNSET else token
        if key is not None:
            pairs.append(("Idempotency-Key", key))
        if token is not None:
            pairs.append(("Authorization", f"Bearer {token}"))
        if kind is not None:
            pairs.append(("Content-Type", kind))
        return [*pairs, *more]

    def request(
        self,
        path: str = "/once/charges",
        steps: Iterable[Step] | None = None,
        *,
        method: str = "POST",
        body: bytes | None = BODY,
        **headers: Any,
    ) -> bytes:
        """Write a request."""
        return wire.request(method, path, self.headers(steps, **headers), body)

    def begin(self, *args: Any, receive_buffer: int | None = None, **kwargs: Any) -> Connection:
        """Send a request on a connection of its own, and return before the answer."""
        connection = self.server.connect(receive_buffer=receive_buffer)
        connection.send(self.request(*args, **kwargs))
        return connection

    def send(self, *args: Any, method: str = "POST", **kwargs: Any) -> Reply:
        """Send a request on a connection of its own, and return the answer."""
        with self.begin(*args, method=method, **kwargs) as connection:
            return connection.reply(method)

    def retry(self, *args: Any, more: Iterable[tuple[str, str | bytes]] = (), **kwargs: Any) -> Reply:
        """Send a request as a client does whose answer got lost: ready to wait for an attempt in flight."""
        return self.send(*args, more=[("Prefer", "wait=10"), *more], **kwargs)


_OF_THE_SERVER = {"date", "server", "connection", "keep-alive", "transfer-encoding", "content-length"}
_MARKS = {"idempotent-replayed", "access-control-expose-headers"}


def own_headers(reply: Reply, *, without: Iterable[str] = ()) -> HeaderPairs:
    """Return the header fields that come from the application, in order."""
    dropped = {*_OF_THE_SERVER, *_MARKS, *without}
    return tuple((name, value) for name, value in reply.headers if name.lower() not in dropped)
