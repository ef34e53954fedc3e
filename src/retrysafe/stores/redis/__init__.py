"""The Redis store (Redis 6.2 or later, or Valkey): one script for each write, by the server's clock, Cluster or not.

An operation is one packed string. All that belongs to it lies in the same one of 64 buckets, and so in one slot of a
Cluster. Read ``attempts.py`` for the verbs, ``scripts`` for what they do, ``layout.py`` for how it is stored and
``wire.py`` for how it gets there.
"""

from __future__ import annotations

from importlib import import_module

try:
    # Looked for here, so that what is missing is named once.
    import_module("hiredis")
except ImportError as missing:
    raise ImportError("the Redis store needs hiredis: pip install 'retrysafe[redis-store]'") from missing

from retrysafe.stores.redis.driver import RedisStore
from retrysafe.stores.redis.location import from_clients, from_url
from retrysafe.stores.redis.settings import Persistence

__all__ = ["Persistence", "RedisStore", "from_clients", "from_url"]
