"""The audit: lines with numbers that grow, each added once (R10)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from botocore.exceptions import ClientError

from retrysafe.errors import StoreUnavailable
from retrysafe.stores.documents.port import Line
from retrysafe_dynamodb.failures import is_faster

_ALL = "audit"
_COUNTER = {"pk": {"S": "audit-counter"}, "sk": {"S": "audit-counter"}}
_MOST_TRIES = 100

Item = dict[str, dict[str, Any]]


class AuditLines:
    """The lines in a table: each twice, among all and among those of its operation.

    Args:
        client: of DynamoDB.
        table: its name.
    """

    def __init__(self, client: Any, table: str) -> None:  # noqa: ANN401 - boto has no types
        self._client, self._table = client, table

    def append(self, line_id: str, operation_id: str, body: bytes) -> None:
        """Add a line under the next number; one whose id is there already changes nothing.

        Number, line and id are written in one transaction: of two who add at once, one begins again.
        """
        for _ in range(_MOST_TRIES):
            if self._item({"pk": {"S": f"audit-line#{line_id}"}, "sk": {"S": "audit-line"}}) is not None:
                return
            counter = self._item(_COUNTER)
            last = 0 if counter is None else int(counter["last"]["N"])
            try:
                self._add(line_id, operation_id, body, last)
            except ClientError as error:
                if not is_faster(error):
                    raise
            else:
                return
        raise StoreUnavailable("others add to the audit again and again")

    def lines(self, operation_id: str | None, limit: int) -> Sequence[Line]:
        """List lines, newest first."""
        asked: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": {":pk": {"S": _list_of(operation_id)}},
            "ScanIndexForward": False,
            "ConsistentRead": True,
            "Limit": limit,
        }
        lines: list[Line] = []
        while True:
            answer = self._client.query(**asked)
            lines += [Line(int(item["sk"]["S"]), item["body"]["B"]) for item in answer["Items"]]
            if len(lines) >= limit or "LastEvaluatedKey" not in answer:
                return lines[:limit]
            asked["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def _add(self, line_id: str, operation_id: str, body: bytes, last: int) -> None:
        number = {"S": f"{last + 1:020d}"}
        counted: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"}
        if last:
            counted = {"ConditionExpression": "#last = :last", "ExpressionAttributeNames": {"#last": "last"}}
            counted["ExpressionAttributeValues"] = {":last": {"N": str(last)}}
        puts: list[tuple[Item, dict[str, Any]]] = [
            ({**_COUNTER, "last": {"N": str(last + 1)}}, counted),
            (
                {"pk": {"S": f"audit-line#{line_id}"}, "sk": {"S": "audit-line"}},
                {"ConditionExpression": "attribute_not_exists(pk)"},
            ),
            ({"pk": {"S": _list_of(None)}, "sk": number, "body": {"B": body}}, {}),
            ({"pk": {"S": _list_of(operation_id)}, "sk": number, "body": {"B": body}}, {}),
        ]
        actions = [{"Put": {"TableName": self._table, "Item": item, **guard}} for item, guard in puts]
        self._client.transact_write_items(TransactItems=actions)

    def _item(self, key: Item) -> Item | None:
        found: dict[str, Item] = self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True)
        return found.get("Item")


def _list_of(operation_id: str | None) -> str:
    return _ALL if operation_id is None else f"{_ALL}#{operation_id}"
