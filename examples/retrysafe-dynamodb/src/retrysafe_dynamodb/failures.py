"""What DynamoDB's errors mean to a store."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError

from retrysafe.errors import StoreUnavailable

_CONDITION = "ConditionalCheckFailed"


@contextmanager
def unless_refused() -> Generator[None]:
    """Raise every error of the client's as one of the store's.

    Raises:
        StoreUnavailable: nothing is known about what was asked for (D4).
    """
    try:
        yield
    except ClientError as error:
        raise StoreUnavailable(f"DynamoDB refused: {_code(error)}: {error.response['Error'].get('Message')}") from error
    except BotoCoreError as error:
        raise StoreUnavailable(f"DynamoDB: {error}") from error


@contextmanager
def conditional() -> Generator[None]:
    """Let a write go by whose condition did not hold."""
    try:
        yield
    except ClientError as error:
        if not is_faster(error):
            raise


def is_faster(error: ClientError) -> bool:
    """Tell whether a write, or a transaction, was refused because its condition did not hold."""
    match _code(error):
        case "ConditionalCheckFailedException":
            return True
        case "TransactionCanceledException":
            reasons = error.response.get("CancellationReasons") or []
            return any(reason.get("Code") == _CONDITION for reason in reasons)
        case _:
            return False


def is_missing_table(error: ClientError) -> bool:
    """Tell whether there is no such table."""
    return _code(error) == "ResourceNotFoundException"


def _code(error: ClientError) -> str:
    code: str = error.response["Error"]["Code"]
    return code
