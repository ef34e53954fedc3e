"""Documents as items: read consistently, written under a condition, found through indexes.

A document is one item with its body, a revision, and the attributes that the indexes sort it by. DynamoDB writes all of
them together, so an index never lacks what its document needs for longer than it takes DynamoDB to bring it there. A
body that is too large for an item lies beside it in parts, which belong to one revision; then a transaction writes
everything or nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import islice
from math import ceil, inf
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from retrysafe.errors import StoreUnavailable
from retrysafe.stores.documents.port import INDEXES, Change, Facts, Found, Index, Loaded, Place, Shown
from retrysafe_dynamodb.failures import is_faster
from retrysafe_dynamodb.table import NEWEST, index_keys

LARGEST_PART = 380_000
"""Bytes in one item, which may have 400 KB with its attributes."""

MOST_PARTS = 10
"""A transaction may write 4 MB."""

_AT_ONCE = 100
_MOST_TRIES = 10
_MICROSECONDS = 1_000_000

Item = dict[str, dict[str, Any]]


class Revision(NamedTuple):
    """Which write a document is from.

    Attributes:
        token: random, so that a write whose answer was lost is known by it.
        parts: how many items the body is in besides the document's own.
    """

    token: str
    parts: int


class Documents:
    """The documents of a table.

    Args:
        client: of DynamoDB.
        table: its name.
        shards: into how many parts each index is split.
    """

    def __init__(self, client: Any, table: str, shards: int) -> None:  # noqa: ANN401 - boto has no types
        self._client, self._table, self._shards = client, table, shards

    def load(self, digests: Sequence[bytes]) -> Sequence[Loaded]:
        """Read documents as they are now (consistent reads)."""
        return [
            loaded for begin in range(0, len(digests), _AT_ONCE) for loaded in self._load(digests[begin:][:_AT_ONCE])
        ]

    def write(self, change: Change) -> Revision | None:
        """Carry out one change; None when somebody else was faster.

        Raises:
            StoreUnavailable: the document is larger than DynamoDB can write at once.
        """
        revision = Revision(secrets.token_hex(8), _parts(change.body))
        before: Revision | None = change.revision
        guard = _must_be(before)
        try:
            if revision.parts or (before is not None and before.parts):
                self._write_parts(change, before, revision, guard)
            elif change.body is None or change.after is None:
                self._client.delete_item(TableName=self._table, Key=_key(change.digest), **guard)
            else:
                item = self._item(change.digest, change.body, change.after, revision)
                self._client.put_item(TableName=self._table, Item=item, **guard)
        except ClientError as error:
            if not is_faster(error):
                raise
            # The client sends a request again whose answer was lost: then it may have been our own write (D4).
            return revision if self._is_ours(change, revision) else None
        return revision

    def find(self, index: Index, by: float, after: Place | None, limit: int) -> Sequence[Found]:
        """List what an index has up to an instant."""
        # Nothing that is in an index ends in a blank, or is greater than the tilde.
        bounds = _Bounds("BETWEEN :low AND :high", {":low": f"{after or ''} ", ":high": f"{_sortable(by)}~"})
        return [Found(_digest(place), place) for place in islice(self._places(index, bounds, limit), limit)]

    def newest(self, after: Place | None, limit: int) -> Sequence[Shown]:
        """List documents, the greatest number first."""
        shown: list[Shown] = []
        places = self._places(NEWEST, _Bounds("< :high", {":high": after or "~"}), limit, newest_first=True)
        # What was deleted just now is still in the index, and must not make the page look like the last.
        while len(shown) < limit and (some := list(islice(places, limit - len(shown)))):
            loaded = {each.digest: each.body for each in self.load([_digest(place) for place in some])}
            shown += [Shown(loaded[_digest(place)], place) for place in some if _digest(place) in loaded]
        return shown

    def _places(self, index: str, bounds: _Bounds, page: int, *, newest_first: bool = False) -> Iterator[str]:
        """Go through the parts of an index side by side, in order."""
        parts = [self._part(index, shard, bounds, page, newest_first=newest_first) for shard in range(self._shards)]
        return merge(*parts, reverse=newest_first)

    def _part(self, index: str, shard: int, bounds: _Bounds, page: int, *, newest_first: bool) -> Iterator[str]:
        part, at = index_keys(index)
        asked: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": index,
            "KeyConditionExpression": f"{part} = :shard AND {at} {bounds.condition}",
            "ExpressionAttributeValues": {":shard": {"S": str(shard)}}
            | {k: {"S": v} for k, v in bounds.values.items()},
            "ScanIndexForward": not newest_first,
            "Limit": page,
        }
        while True:
            answer = self._client.query(**asked)
            yield from (item[at]["S"] for item in answer["Items"])
            if "LastEvaluatedKey" not in answer:
                return
            asked["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def _load(self, digests: Sequence[bytes]) -> list[Loaded]:
        found: dict[str, Item] = {}
        asked: dict[str, Any] = {"Keys": [_key(digest) for digest in digests], "ConsistentRead": True}
        while asked:
            answer = self._client.batch_get_item(RequestItems={self._table: asked})
            found |= {item["pk"]["S"]: item for item in answer["Responses"].get(self._table, [])}
            asked = answer.get("UnprocessedKeys", {}).get(self._table, {})
        items = [(digest, found[_key(digest)["pk"]["S"]]) for digest in digests if _key(digest)["pk"]["S"] in found]
        return [loaded for digest, item in items if (loaded := self._whole(digest, item)) is not None]

    def _whole(self, digest: bytes, item: Item | None) -> Loaded | None:
        """Put a document together; somebody may be writing it anew meanwhile."""
        for _ in range(_MOST_TRIES):
            if item is None:
                return None
            revision = Revision(item["token"]["S"], int(item["parts"]["N"]))
            if not revision.parts:
                return Loaded(digest, item["body"]["B"], revision)
            parts = self._parts_of(digest, revision)
            if len(parts) == revision.parts:
                return Loaded(digest, b"".join(parts), revision)
            item = self._head(digest)
        raise StoreUnavailable("others are writing a document again and again")

    def _parts_of(self, digest: bytes, revision: Revision) -> list[bytes]:
        asked: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "pk = :pk AND begins_with(sk, :part)",
            "ExpressionAttributeValues": {":pk": _key(digest)["pk"], ":part": {"S": f"part#{revision.token}#"}},
            "ConsistentRead": True,
        }
        parts: list[bytes] = []
        while True:
            answer = self._client.query(**asked)
            parts += [item["body"]["B"] for item in answer["Items"]]
            if "LastEvaluatedKey" not in answer:
                return parts
            asked["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def _head(self, digest: bytes) -> Item | None:
        found: dict[str, Item] = self._client.get_item(TableName=self._table, Key=_key(digest), ConsistentRead=True)
        return found.get("Item")

    def _write_parts(self, change: Change, before: Revision | None, revision: Revision, guard: dict[str, Any]) -> None:
        actions: list[dict[str, Any]] = []
        if change.body is None or change.after is None:
            actions.append({"Delete": {"TableName": self._table, "Key": _key(change.digest), **guard}})
        else:
            item = self._item(change.digest, change.body, change.after, revision)
            actions.append({"Put": {"TableName": self._table, "Item": item, **guard}})
            for number in range(revision.parts):
                part = {"body": {"B": change.body[number * LARGEST_PART :][:LARGEST_PART]}}
                item = _part_key(change.digest, revision, number) | part
                actions.append({"Put": {"TableName": self._table, "Item": item}})
        if before is not None:
            keys = [_part_key(change.digest, before, number) for number in range(before.parts)]
            actions += [{"Delete": {"TableName": self._table, "Key": key}} for key in keys]
        self._client.transact_write_items(TransactItems=actions, ClientRequestToken=revision.token)

    def _item(self, digest: bytes, body: bytes, facts: Facts, revision: Revision) -> Item:
        shard = {"S": str(digest[0] % self._shards)}
        item: Item = {**_key(digest), "token": {"S": revision.token}, "parts": {"N": str(revision.parts)}}
        if not revision.parts:
            item["body"] = {"B": body}
        instants = {index: facts.at(index) for index in INDEXES}
        places: dict[str, str] = {index: _sortable(at) for index, at in instants.items() if at is not None}
        places[NEWEST] = f"{facts.number:020d}"
        for index, place in places.items():
            part, sort = index_keys(index)
            item[part], item[sort] = shard, {"S": f"{place}#{digest.hex()}"}
        return item

    def _is_ours(self, change: Change, revision: Revision) -> bool:
        head = self._head(change.digest)
        # Nobody can tell who deleted what is gone, and nobody needs to.
        return head is None if change.body is None else head is not None and head["token"]["S"] == revision.token


class _Bounds(NamedTuple):
    """Which stretch of an index is wanted: the condition on its sort key, and the values in it."""

    condition: str
    values: dict[str, str]


def _parts(body: bytes | None) -> int:
    size = 0 if body is None else len(body)
    if size <= LARGEST_PART:
        return 0
    parts = ceil(size / LARGEST_PART)
    if parts > MOST_PARTS:
        raise StoreUnavailable(
            f"a document has {size:,} bytes, and DynamoDB writes {MOST_PARTS * LARGEST_PART:,} at once"
        )
    return parts


def _must_be(before: Revision | None) -> dict[str, Any]:
    """Write the condition that a document is as it was read, or is not there."""
    if before is None:
        return {"ConditionExpression": "attribute_not_exists(pk)"}
    return {
        "ConditionExpression": "#token = :token",
        # It is one of DynamoDB's reserved words.
        "ExpressionAttributeNames": {"#token": "token"},
        "ExpressionAttributeValues": {":token": {"S": before.token}},
    }


def _key(digest: bytes) -> Item:
    return {"pk": {"S": f"document#{digest.hex()}"}, "sk": {"S": "document"}}


def _part_key(digest: bytes, revision: Revision, number: int) -> Item:
    return {**_key(digest), "sk": {"S": f"part#{revision.token}#{number:02d}"}}


def _digest(place: str) -> bytes:
    return bytes.fromhex(place.partition("#")[2])


def _sortable(at: float) -> str:
    """Write an instant so that strings sort like instants: microseconds, rounded down, because early is harmless."""
    return "9" * 20 if at == inf else f"{max(0, int(at * _MICROSECONDS)):020d}"
