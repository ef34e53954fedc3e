"""The memory store: the executable specification of every other store, and a real one for a single process.

Read ``verbs.py``: each verb is a plain function on a dict, carried out at once under one lock. Nothing looks at every
checkpoint: open ones are kept apart, and what a purge may find lies in a heap.
"""

from __future__ import annotations

from retrysafe.stores.memory.store import MemoryStore, from_url

__all__ = ["MemoryStore", "from_url"]
