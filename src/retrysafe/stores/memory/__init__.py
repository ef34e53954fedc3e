"""The memory store: the executable specification of every other store, and a real one for a single process.

What a verb does is in ``stores/documents``, as plain functions on one row; here are the dict they lie in and the lock.
Nothing looks at every checkpoint: open ones are kept apart, and what a purge may find lies in a heap.
"""

from __future__ import annotations

from retrysafe.stores.memory.store import MemoryStore, from_url

__all__ = ["MemoryStore", "from_url"]
