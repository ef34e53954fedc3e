"""Recovery of operations by processes that never saw their client."""

import signal
from collections.abc import Callable
from itertools import product

import pytest

from retrysafe.protocol.states import FINAL, State
from retrysafe.protocol.verdicts import ATTEMPTS_SPENT
from tests.crash.processes import (
    BODY,
    COOKIE,
    KEY,
    TOKEN,
    UVICORN,
    WSGIREF,
    Server,
    Town,
    expect_death,
    gunicorn,
    until,
)
from tests.servers.wire import Truncated

Found = Callable[..., Town]

BEFORE_ANY_EFFECT = (("claim", "after", 1),)
BEFORE_THE_RECORD = (("record", "before", 1),)


def test_the_scan_runs_it_again_for_the_stored_principal_and_a_later_client_replays(town: Found) -> None:
    """No client is needed (R2, R9, R13)."""
    shop = town(mode="again")
    doomed = shop.start(faults=BEFORE_ANY_EFFECT)
    expect_death(doomed)
    second = shop.scanning()
    met = shop.await_state(*FINAL, State.PARKED)
    assert (met.state, met.request, met.attempt) == (State.DONE, None, 2)
    (effect,) = shop.ledger
    assert (effect["user"], effect["attempt"], effect["recovering"], effect["pid"]) == ("alice", 2, True, second.pid)
    assert effect["operation"] == met.operation_id
    reply = second.post()
    assert (reply.status, reply.replayed, len(shop.ledger)) == (201, True, 1)
    assert shop.events(second)[:3] == ["Recovered", "Claimed", "Recorded"]


def test_a_re_run_whose_principal_cannot_be_restored_parks(town: Found) -> None:
    """A 401 or 403 in recovery is no outcome, and no reason to try for ever (R13)."""
    shop = town(mode="again", restores="wrongly")
    expect_death(shop.start(faults=BEFORE_ANY_EFFECT))
    second = shop.scanning()
    met = shop.await_state(*FINAL, State.PARKED)
    assert (met.state, met.reason) == (State.PARKED, "the re-run was refused with status 401")
    assert second.post().code == "outcome-unknown"
    assert shop.ledger == []


def test_without_a_way_to_restore_the_principal_only_the_client_resumes(town: Found) -> None:
    """R13."""
    shop = town(mode="again", restores="")
    expect_death(shop.start(faults=BEFORE_ANY_EFFECT))
    second = shop.scanning()
    assert second.post_until_settled().status == 201
    (effect,) = shop.ledger
    assert (effect["attempt"], effect["recovering"]) == (2, False)


def test_an_operation_that_kills_its_process_each_time_ends_parked(town: Found) -> None:
    """Attempts that died count, whoever made them (R8)."""
    shop = town(mode="again", attempts=2)
    servers = [shop.scanning()]
    expect_death(servers[0], "/deadly")

    def settled_or_restarted() -> bool:
        if servers[-1].process.poll() is not None:
            assert servers[-1].wait() == -signal.SIGKILL
            servers.append(shop.scanning())
        return shop.checkpoint.state is State.PARKED

    until(settled_or_restarted, "it is parked")
    met = shop.checkpoint
    assert (met.reason, met.deaths, len(shop.ledger)) == (ATTEMPTS_SPENT, 2, 2)
    assert servers[-1].post("/deadly").code == "outcome-unknown"
    assert servers[-1].process.poll() is None


def test_no_key_and_no_credential_is_ever_in_the_file_or_in_a_log(town: Found) -> None:
    """While the operation is open its request is stored, and when it is final nothing of it is left (K8, R9, R13)."""
    shop = town(mode="again")
    doomed = shop.start(faults=BEFORE_THE_RECORD)
    expect_death(doomed)
    assert BODY in shop.files()
    _hold_no_secret(shop, doomed)
    second = shop.scanning()
    shop.await_state(State.DONE)
    assert second.post().replayed
    _hold_no_secret(shop, doomed, second)
    second.send(signal.SIGTERM)
    second.wait()
    _hold_no_secret(shop, doomed, second)
    assert BODY not in shop.files()


def _hold_no_secret(shop: Town, *servers: Server) -> None:
    text = b"".join([shop.files(), *(server.log.read_bytes() for server in servers)])
    text += b"".join(path.read_bytes() for path in shop.directory.glob("events-*"))
    assert b"Claimed" in text
    secrets = (KEY, TOKEN, TOKEN.split()[1], COOKIE, COOKIE.split("=")[1])
    assert [secret for secret in secrets if secret.encode() in text] == []


SERVERS = {"wsgiref": WSGIREF, "gunicorn-sync": gunicorn(), "gunicorn-gthread": gunicorn("gthread", "--threads", "4")}


@pytest.mark.parametrize(
    ("server", "mode", "path"),
    [
        *product(SERVERS, ("once", "again"), ("/charges",)),
        ("wsgiref", "again", "/stream"),
        ("gunicorn-gthread", "again", "/stream"),
    ],
)
def test_threads_die_like_loops(town: Found, server: str, mode: str, path: str) -> None:
    """The crash table on WSGI: the same effects, whoever serves, and whoever finds it."""
    state, effects = (State.PARKED, 1) if mode == "once" else (State.DONE, 2)
    shop = town(mode=mode)
    doomed = shop.start(SERVERS[server], faults=BEFORE_THE_RECORD if path == "/charges" else ())
    # A WSGI application opens its store with its first guarded request, unless it is told to before.
    second = shop.scanning(WSGIREF, opens_early=True) if mode == "again" else shop.scanning(UVICORN)
    try:
        cut = doomed.post(path)
    except (Truncated, OSError):
        pass
    else:
        # HTTP/1.0 frames no streams, so that the client cannot tell.
        assert (server, cut.body) == ("wsgiref", b"part 0\n")
    assert shop.await_state(*FINAL, State.PARKED).state is state
    assert len(shop.ledger) == effects
    assert len({entry["pid"] for entry in shop.ledger}) == effects
    reply = second.post(path)
    if state is State.PARKED:
        assert reply.code == "outcome-unknown"
    else:
        not_kept = (False, "completed-not-replayable")
        assert (reply.replayed, reply.code) == (not_kept if path == "/stream" else (True, ""))
    assert len(shop.ledger) == effects
