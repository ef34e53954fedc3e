"""Checkpoints in a DynamoDB table: the worked example of a store in a package of its own.

Read it in this order: ``port.py`` is what DynamoDB must be able to do for the verbs, all of which are retrysafe's own;
``documents.py`` and ``audit.py`` do it; ``table.py`` makes the table; ``store.py`` runs programs, for threads and for
event loops.
"""

from __future__ import annotations

from retrysafe_dynamodb.location import from_url
from retrysafe_dynamodb.store import DynamoDBStore

__all__ = ["DynamoDBStore", "from_url"]
