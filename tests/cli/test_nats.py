"""The command line and a store in NATS."""

from __future__ import annotations

from functools import partial

from retrysafe.protocol.verdicts import Claimed
from retrysafe.runtime.clock import uuid7
from retrysafe.stores.nats import NatsStore
from retrysafe.testing.asks import an_ask
from tests.cli.conftest import Run
from tests.services.service import Service


def test_a_bucket_is_looked_at_and_what_is_parked_is_settled(run: Run, nats: Service) -> None:
    """R10, D3: with nothing but its URL, whose password is not shown."""
    bucket = f"cli-{uuid7()}"
    store = NatsStore([nats.url], bucket=bucket)
    verdict = store.run(partial(store.verbs.claim, an_ask(attempt_id=uuid7())))
    assert isinstance(verdict, Claimed)
    store.run(partial(store.verbs.park, verdict.claim, "the bank did not answer"))
    store.close()
    url = nats.url.replace("nats://", "nats://me:secret@") + f"/{bucket}"
    doctor = run("doctor", url)
    assert "an acknowledged write may be lost with the power" in doctor.stdout
    assert "sync_interval: always" in doctor.stdout
    assert "1 operation, outcome unknown" in doctor.stdout
    assert "secret" not in doctor.output
    assert "the bank did not answer" in run("ops", "ls", url, "--parked").stdout
    released = run(
        "ops", "release", url, verdict.claim.operation_id, "--by", "ada", "--note", "nothing was charged", "--yes"
    )
    assert released.exit_code == 0, released.output
    assert "nothing was charged" in run("ops", "audit", url).stdout


def test_a_bucket_that_says_it_is_synced_is_durable(run: Run, nats: Service) -> None:
    """D3."""
    doctor = run("doctor", f"{nats.url}/cli-{uuid7()}?synced=true")
    assert "survives power loss of its node" in doctor.stdout
    assert doctor.exit_code == 0, doctor.output
