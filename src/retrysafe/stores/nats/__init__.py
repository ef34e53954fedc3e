"""The NATS store: every operation a document in a JetStream bucket, every write compare-and-set on its revision.

Read ``stores/documents`` for what it does, and ``bucket.py`` for what lies where.
"""

from __future__ import annotations

from importlib import import_module

try:
    # Looked for here, so that what is missing is named once.
    import_module("nats")
except ImportError as missing:
    raise ImportError("the NATS store needs nats-py: pip install 'retrysafe[nats-store]'") from missing

from retrysafe.stores.nats.driver import NatsStore
from retrysafe.stores.nats.location import from_url

__all__ = ["NatsStore", "from_url"]
