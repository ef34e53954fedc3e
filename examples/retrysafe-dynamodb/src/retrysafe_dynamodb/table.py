"""The table: its keys, its indexes, and what it was given when it was made."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import Any

from retrysafe.errors import SchemaMismatch
from retrysafe.stores.base import Meta
from retrysafe.stores.documents.port import INDEXES
from retrysafe_dynamodb.failures import conditional, is_missing_table, unless_refused

SCHEMA_VERSION = 1
NEWEST = "newest"

Item = dict[str, dict[str, Any]]

_META: Item = {"pk": {"S": "meta"}, "sk": {"S": "meta"}}


def prepare(client: Any, table: str, *, shards: int, create: bool) -> tuple[Meta, int]:  # noqa: ANN401 - boto has no types
    """Make the table where it is missing, and read what it was given then.

    Args:
        client: of DynamoDB.
        table: its name.
        shards: into how many parts each index is to be split, should the table be new.
        create: whether it may be made.

    Returns:
        The meta row, and into how many parts the indexes are split.

    Raises:
        SchemaMismatch: there is no table and none may be made, or a newer version made it.
        StoreUnavailable: DynamoDB cannot be reached, or refuses us.

    Rules: K4.
    """
    with unless_refused():
        row = _meta_row(client, table, create=create)
        if row is None:
            new: Item = {
                **_META,
                "pepper": {"B": secrets.token_bytes(32)},
                "secret": {"B": secrets.token_bytes(32)},
                "version": {"N": str(SCHEMA_VERSION)},
                "shards": {"N": str(shards)},
            }
            # Of several processes that begin at once, one gives the table its pepper.
            with conditional():
                client.put_item(TableName=table, Item=new, ConditionExpression="attribute_not_exists(pk)")
            row = _meta_row(client, table, create=False) or new
    version = int(row["version"]["N"])
    if version != SCHEMA_VERSION:
        raise SchemaMismatch(version, SCHEMA_VERSION)
    return Meta(row["pepper"]["B"], row["secret"]["B"], version), int(row["shards"]["N"])


def is_there(client: Any, table: str) -> bool:  # noqa: ANN401 - boto has no types
    """Tell whether the table was ever made; make nothing.

    Raises:
        StoreUnavailable: DynamoDB cannot be reached, or refuses us.
    """
    try:
        with unless_refused():
            _meta_row(client, table, create=False)
    except SchemaMismatch:
        return False
    return True


def _meta_row(client: Any, table: str, *, create: bool) -> Item | None:  # noqa: ANN401 - boto has no types
    try:
        found: dict[str, Item] = client.get_item(TableName=table, Key=_META, ConsistentRead=True)
    except client.exceptions.ClientError as error:
        if not is_missing_table(error):
            raise
        if not create:
            raise SchemaMismatch(0, SCHEMA_VERSION) from None
        _create(client, table)
        return None
    return found.get("Item")


def _create(client: Any, table: str) -> None:  # noqa: ANN401 - boto has no types
    names = [*INDEXES, NEWEST]
    keys = ["pk", "sk", *(key for name in names for key in index_keys(name))]
    # Unless another process is faster.
    with suppress(client.exceptions.ResourceInUseException):
        client.create_table(
            TableName=table,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
            KeySchema=_keys("pk", "sk"),
            # They hold keys only: documents are read from the table itself, which is never behind.
            GlobalSecondaryIndexes=[
                {
                    "IndexName": name,
                    "KeySchema": _keys(*index_keys(name)),
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
                for name in names
            ],
        )
    client.get_waiter("table_exists").wait(TableName=table, WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def index_keys(name: str) -> tuple[str, str]:
    """Name the attributes that an index is sorted into parts and within a part by."""
    return f"{name}_shard", f"{name}_at"


def _keys(partition: str, sort: str) -> list[dict[str, str]]:
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]
