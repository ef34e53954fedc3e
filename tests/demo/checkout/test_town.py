import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import pytest

from retrysafe.demo.checkout import town as town_module
from retrysafe.demo.checkout.moods import Mood
from retrysafe.demo.checkout.town import Town


@pytest.fixture
def moods(monkeypatch: pytest.MonkeyPatch) -> list[Mood]:
    """Return the moods of the next calls; the services are fine when there is none left, and refuse nobody."""
    coming: list[Mood] = []

    def mood_of(*_: object) -> Mood:
        return coming.pop(0) if coming else Mood.FINE

    def refusal_of(_seed: int, _what: str, order: str) -> int | None:
        return 402 if order == "poor" else None

    monkeypatch.setattr(town_module, "mood_of", mood_of)
    monkeypatch.setattr(town_module, "refusal_of", refusal_of)
    monkeypatch.setattr(town_module, "_HANG_SECONDS", 0.05)
    monkeypatch.setattr(town_module, "_LATE_SECONDS", 0.1)
    return coming


async def _ask(
    town: Town, path: str, key: str = "", undoes: str = "", *, order: str = "1", method: str = "POST"
) -> tuple[int, Any]:
    """Call a service; None for a body that breaks off."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps({"order": order, "amount": 5}).encode()}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"idempotency-key", key.encode()), (b"idempotency-undoes", undoes.encode())]
    await town({"type": "http", "method": method, "path": path, "headers": headers}, receive, send)
    whole = not sent[-1].get("more_body")
    return sent[0]["status"], json.loads(sent[1]["body"]) if whole else None


def _run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


@pytest.mark.parametrize(
    ("mood", "status", "taken"),
    [
        (Mood.FINE, 201, 5),
        (Mood.FAILS_BEFORE, 503, 0),
        (Mood.FAILS_AFTER, 503, 5),
        (Mood.HANGS_BEFORE, 201, 5),
        (Mood.HANGS_AFTER, 201, 5),
        (Mood.FORGETS, 201, 5),
    ],
)
def test_each_mood_has_its_effect_and_a_repeat_makes_it_one(
    moods: list[Mood], mood: Mood, status: int, taken: int
) -> None:
    """I4."""
    moods.append(mood)

    async def work() -> None:
        town = Town(1)
        met, body = await _ask(town, "/charges", "k")
        assert (met, body) == (status, None if mood is Mood.FORGETS else {})
        assert (await _ask(town, "/charges/find", "k"))[0] == (200 if taken else 404)
        assert (await _ask(town, "/charges", "k"))[0] == 201
        _, pages = await _ask(town, "/settled", method="GET")
        assert (pages["charges"]["balance"], pages["charges"]["calls"]) == (5, 3)
        assert pages["charges"]["repeated"] == (1 if taken else 0)

    _run(work())


def test_a_call_that_lands_after_its_undo_is_gone(moods: list[Mood]) -> None:
    """R7."""
    moods.append(Mood.LANDS_LATE)

    async def work() -> None:
        town = Town(1)
        late = asyncio.create_task(_ask(town, "/holds", "k"))
        await asyncio.sleep(0)
        assert (await _ask(town, "/holds/undo", "u", "k"))[0] == 200
        _, pages = await _ask(town, "/settled", method="GET")
        assert late.done() or (await late)[0] == 410
        assert (pages["holds"]["balance"], pages["holds"]["too_late"]) == (0, 1)

    _run(work())


@pytest.mark.usefixtures("moods")
def test_a_refusal_has_no_effect_and_what_is_not_there_is_not_found() -> None:
    async def work() -> None:
        town = Town(1)
        assert (await _ask(town, "/charges", "k", order="poor"))[0] == 402
        assert (await _ask(town, "/charges/find", "k", order="poor"))[0] == 404
        assert (await _ask(town, "/vault", "k"))[0] == 404
        _, pages = await _ask(town, "/settled", method="GET")
        assert pages["charges"]["effects"] == {}

    _run(work())
