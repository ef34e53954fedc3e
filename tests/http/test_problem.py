"""Errors on the wire, and the table that they are made from (§E, K8)."""

import json
from typing import Any

import pytest

from retrysafe import errors
from retrysafe.errors import (
    AttemptSuperseded,
    ConfigurationError,
    InProgress,
    KeyExpired,
    KeyMalformed,
    KeyMissing,
    KeyReused,
    NotReplayable,
    OutcomeUnknown,
    PrincipalMissing,
    RecordUnreadable,
    ReplayRefused,
    RequestTooLarge,
    RetrySafeError,
    SchemaMismatch,
    StoreCorrupt,
    StoreError,
    StoreUnavailable,
)
from retrysafe.http.codes import ALL, CODES, code_of, find
from retrysafe.http.problem import failure_response, problem_response
from retrysafe.http.profiles import IETF, PROFILES, Profile, profile
from retrysafe.protocol.model import Response

# Every error with the status, code and members of §E.
CASES: list[tuple[RetrySafeError, int, str, dict[str, Any]]] = [
    (KeyMissing("m"), 400, "key-missing", {"retryable": False}),
    (KeyMalformed("the key is empty"), 400, "key-malformed", {"retryable": False, "detail": "the key is empty"}),
    (PrincipalMissing("m"), 401, "principal-missing", {"retryable": False}),
    (ReplayRefused("m"), 403, "replay-refused", {"retryable": False}),
    (InProgress(4, operation_id="op"), 409, "in-progress", {"retryable": True, "operation": "op"}),
    (
        OutcomeUnknown("why", operation_id="op"),
        409,
        "outcome-unknown",
        {"retryable": False, "operation": "op", "new_key_safe": False},
    ),
    (
        NotReplayable(201, "/charges/1", operation_id="op"),
        409,
        "completed-not-replayable",
        {"original_status": 201, "location": "/charges/1", "operation": "op", "new_key_safe": False},
    ),
    (KeyExpired("m", operation_id="op"), 410, "key-expired", {"operation": "op", "new_key_safe": False}),
    (RequestTooLarge(1024), 413, "request-too-large", {"limit_bytes": 1024}),
    (KeyReused("m"), 422, "key-reused", {"retryable": False}),
    (AttemptSuperseded("op", 2), 503, "attempt-superseded", {"retryable": True, "operation": "op"}),
    (StoreUnavailable("m"), 503, "store-unavailable", {"retryable": True}),
    (StoreCorrupt("m"), 503, "store-unavailable", {"retryable": True}),
    (SchemaMismatch(1, 2), 503, "store-unavailable", {"retryable": True}),
    (RecordUnreadable("m"), 503, "record-unreadable", {"retryable": True}),
]
EACH = pytest.mark.parametrize(
    ("error", "status", "code", "members"), CASES, ids=[type(error).__name__ for error, *_ in CASES]
)


def members_of(response: Response) -> dict[str, Any]:
    members: dict[str, Any] = json.loads(response.body)
    return members


@EACH
def test_an_error_has_its_status_its_code_and_its_members(
    error: RetrySafeError, status: int, code: str, members: dict[str, Any]
) -> None:
    """E: RFC 9457, with `code` and `retryable`."""
    response = problem_response(error)
    body = members_of(response)
    assert (response.status, body["status"], body["code"]) == (status, status, code)
    assert body["type"] == f"urn:retrysafe:problem:{code}"
    assert body["title"]
    assert body["detail"]
    assert isinstance(body["retryable"], bool)
    assert {name: body[name] for name in members} == members


@EACH
def test_a_problem_is_labelled_measured_and_kept_out_of_caches(
    error: RetrySafeError, status: int, code: str, members: dict[str, Any]
) -> None:
    """E."""
    response = problem_response(error)
    assert response.header("content-type") == "application/problem+json"
    assert response.header("content-length") == str(len(response.body))
    assert response.header("cache-control") == "no-store"


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (InProgress(4), "4"),
        (AttemptSuperseded("op", 7), "7"),
        (StoreUnavailable("m"), "1"),
        (StoreCorrupt("m"), "30"),
        (SchemaMismatch(1, 2), "30"),
        (RecordUnreadable("m"), "30"),
        (OutcomeUnknown("why"), None),
        (KeyReused("m"), None),
        (KeyExpired("m"), None),
    ],
    ids=repr,
)
def test_retry_after_is_said_exactly_where_asking_again_helps(error: RetrySafeError, seconds: str | None) -> None:
    """E: a parked operation has none, because nothing settles it by itself."""
    response = problem_response(error)
    assert response.header("retry-after") == seconds
    assert members_of(response)["retryable"] is (seconds is not None)


def test_the_original_location_is_a_header_too() -> None:
    """S5."""
    assert problem_response(NotReplayable(201, "/charges/1")).header("location") == "/charges/1"
    bare = problem_response(NotReplayable(200, None))
    assert bare.header("location") is None
    assert "location" not in members_of(bare)


def test_an_operation_that_the_caller_may_not_know_of_is_not_named() -> None:
    """F1, K6."""
    assert "operation" not in members_of(problem_response(KeyReused("m")))
    assert "operation" not in members_of(problem_response(ReplayRefused("m")))


@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailable("postgres://user:S3CRET@db/prod is down"),
        StoreCorrupt("S3CRET"),
        RecordUnreadable("S3CRET"),
        KeyReused("S3CRET"),
        OutcomeUnknown("S3CRET note of an operator", operation_id="op"),
        KeyExpired("S3CRET"),
        KeyMissing("S3CRET"),
        PrincipalMissing("S3CRET"),
        ReplayRefused("S3CRET"),
        ConfigurationError(["S3CRET"]),
        RetrySafeError("S3CRET"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_problem_tells_nothing_of_what_is_inside(error: RetrySafeError) -> None:
    """E, K8: no address of a database, no note, no payload."""
    assert b"S3CRET" not in problem_response(error).body


def test_a_new_key_is_never_called_safe_when_the_effect_may_exist() -> None:
    """E: only where nobody can know, nothing is said."""
    assert {code.code for code in ALL if code.new_key_safe is None} == {
        "configuration",
        "key-missing",
        "key-malformed",
        "principal-missing",
        "key-reused",
        "request-too-large",
    }
    assert {code.code for code in ALL if code.new_key_safe} == {"operation-undone"}


def test_an_unexpected_failure_tells_nothing_about_the_exception() -> None:
    """Mode once: this is what is recorded and replayed."""
    response = failure_response()
    body = members_of(response)
    assert (response.status, body["code"], body["retryable"], body["new_key_safe"]) == (
        500,
        "operation-failed",
        False,
        False,
    )
    assert response.header("retry-after") is None
    assert set(body) == {"type", "title", "status", "detail", "code", "retryable", "new_key_safe"}
    assert failure_response() == response


# The table.


def all_errors(root: type[RetrySafeError] = RetrySafeError) -> set[type[RetrySafeError]]:
    return {root}.union(*(all_errors(kind) for kind in root.__subclasses__() if kind.__module__ == errors.__name__))


def test_every_error_has_a_row() -> None:
    """E: one that only groups others may leave it to its base."""
    groups = {errors.RequestRefused}
    assert all_errors() - groups == set(CODES)


def test_a_strangers_error_means_what_its_base_means() -> None:
    """E: a store that somebody else wrote may have errors of its own."""

    class DiskOnFire(StoreError):
        pass

    class Odd(RetrySafeError):
        pass

    assert code_of(DiskOnFire()).code == "store-unavailable"
    assert problem_response(Odd("m")).status == 500


def test_numbers_and_codes_name_one_row_each() -> None:
    numbers = [code.number for code in ALL]
    assert numbers == sorted(set(numbers))
    wire = [code.code for code in ALL if code.number not in {"E040", "E041"}]
    assert len(set(wire)) == len(wire)


def test_numbers_are_never_given_away_again() -> None:
    """People have them in run books."""
    assert {code.number: code.code for code in ALL} == {
        "E001": "configuration",
        "E010": "key-missing",
        "E011": "key-malformed",
        "E012": "principal-missing",
        "E013": "replay-refused",
        "E020": "in-progress",
        "E021": "key-reused",
        "E022": "outcome-unknown",
        "E023": "completed-not-replayable",
        "E024": "key-expired",
        "E025": "request-too-large",
        "E026": "operation-undone",
        "E030": "attempt-superseded",
        "E031": "store-unavailable",
        "E032": "record-unreadable",
        "E040": "store-unavailable",
        "E041": "store-unavailable",
        "E050": "operation-failed",
    }


def test_every_row_can_be_explained() -> None:
    for code in ALL:
        for text in (code.title, code.what, code.why, code.fix):
            assert text
            assert text[0].isupper()
        assert all(text.endswith(".") for text in (code.what, code.why, code.fix))
        assert not code.title.endswith(".")
        assert code.type == f"urn:retrysafe:problem:{code.code}"


@pytest.mark.parametrize("text", ["E021", "e021", "E21", "21", "021", " key-reused ", "KEY-REUSED"])
def test_a_row_is_found_the_way_people_write_it(text: str) -> None:
    assert [code.number for code in find(text)] == ["E021"]


def test_a_code_of_several_rows_finds_them_all_and_nonsense_finds_none() -> None:
    assert [code.number for code in find("store-unavailable")] == ["E031", "E040", "E041"]
    for nonsense in ("", "E", "E999", "nothing", "-1", "E021x", "²"):
        assert find(nonsense) == ()


# Profiles.


def test_the_ietf_profile_is_the_default_and_changes_nothing() -> None:
    """E: 400, 409 and 422 as the draft has them."""
    assert profile("ietf") is profile("IETF") is IETF
    for code in ALL:
        assert IETF.words(code) == (code.status, code.code)
    assert [PROFILES[name].name for name in PROFILES] == list(PROFILES)


def test_a_profile_puts_other_words_to_the_same_error() -> None:
    """E: the table is the test."""
    other = Profile(name="x", source="s", date="2026-01-01", remap={"key-reused": (409, "conflict")})
    response = problem_response(KeyReused("m"), other)
    body = members_of(response)
    assert (response.status, body["status"], body["code"]) == (409, 409, "conflict")
    assert body["type"] == "urn:retrysafe:problem:conflict"
    assert problem_response(KeyMissing("m"), other) == problem_response(KeyMissing("m"))
    assert failure_response(other) == failure_response()


def test_an_unknown_profile_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ConfigurationError, match="'stripe' is unknown: use one of ietf"):
        profile("stripe")
