import asyncio
import json
from collections.abc import Coroutine
from typing import Any

from retrysafe.demo.bank import Bank, ChargeRequest, Ledger, charges_by_order


def _request(order: str, lane: str = "C") -> ChargeRequest:
    return ChargeRequest(lane, order, 1200)


def test_the_same_key_is_the_same_charge() -> None:
    ledger = Ledger(honours_keys=True)
    first = ledger.post(_request("1"), "k", 1.0)
    again = ledger.post(_request("1"), "k", 2.0)
    assert (first.repeated, again.repeated) == (False, True)
    assert again.charge == first.charge
    assert charges_by_order(ledger.of("C")) == {"1": 1}


def test_another_key_or_no_key_is_another_charge() -> None:
    ledger = Ledger(honours_keys=True)
    charges = [ledger.post(_request("1"), key, 0.0).charge for key in ("k", "l", None, None)]
    assert len(set(charges)) == 4
    assert charges_by_order(ledger.of("C")) == {"1": 4}


def test_a_bank_without_keys_charges_again() -> None:
    ledger = Ledger(honours_keys=False)
    assert ledger.post(_request("1"), "k", 0.0).charge != ledger.post(_request("1"), "k", 0.0).charge
    assert charges_by_order(ledger.of("C")) == {"1": 2}


def test_lanes_are_counted_apart_and_do_not_share_keys() -> None:
    ledger = Ledger(honours_keys=True)
    ledger.post(_request("1", "A"), "k", 0.0)
    assert ledger.post(_request("1", "B"), "k", 0.0).repeated is False
    assert len(ledger.of("A")) == len(ledger.of("B")) == 1


async def _ask(bank: Bank, method: str, path: str, body: bytes = b"", key: bytes = b"") -> tuple[int, Any]:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"idempotency-key", key)] if key else []
    await bank({"type": "http", "method": method, "path": path, "headers": headers}, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


def _run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_two_calls_with_one_key_at_the_same_moment_are_one_charge() -> None:
    async def work() -> None:
        bank = Bank(Ledger(honours_keys=True), seed=1, seconds=0.001)
        body = b'{"lane":"C","order":"1","cents":5}'
        answers = await asyncio.gather(*(_ask(bank, "POST", "/charges", body, b"k") for _ in range(5)))
        assert {status for status, _ in answers} == {201}
        assert len({charge["charge"] for _, charge in answers}) == 1
        assert sum(not charge["repeated"] for _, charge in answers) == 1

    _run(work())


def test_a_settled_ledger_has_what_was_still_under_way() -> None:
    async def work() -> None:
        bank = Bank(Ledger(honours_keys=True), seed=1, seconds=0.02)
        call = asyncio.create_task(_ask(bank, "POST", "/charges", b'{"lane":"C","order":"1","cents":5}'))
        await asyncio.sleep(0)
        assert await _ask(bank, "GET", "/ledger/C") == (200, [])
        status, postings = await _ask(bank, "GET", "/settled/C")
        assert (status, [posting["order"] for posting in postings]) == (200, ["1"])
        assert call.done() or (await call)[0] == 201
        assert (await _ask(bank, "GET", "/vault"))[0] == 404

    _run(work())
