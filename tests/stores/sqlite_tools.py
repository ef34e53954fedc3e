"""What the tests of the SQLite store share: looking inside its writer, and holding it up."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

from retrysafe.protocol.effects import Receipt
from retrysafe.protocol.model import Claim
from retrysafe.stores.program import Program
from retrysafe.stores.sqlite import SQLiteStore
from retrysafe.stores.sqlite.writer import Writer
from retrysafe.testing.asks import DAY_SECONDS

PATIENCE_SECONDS = 60.0
"""How long a test waits for what must happen; only a defect takes as long."""


def writer_of(store: SQLiteStore) -> Writer:
    writer = store._machinery._writer
    assert writer is not None
    return writer


def trace(store: SQLiteStore, note: Callable[[str], object] | None) -> None:
    """Hear of every statement that the writer begins."""
    writer = writer_of(store)
    with writer.resting:
        assert writer.connection is not None
        writer.connection.set_trace_callback(note)


@contextmanager
def held_up(store: SQLiteStore) -> Iterator[None]:
    """Keep the writer busy, so that what is submitted inside waits, and is one group afterwards."""
    begun, go_on = Event(), Event()

    def program() -> Program[None]:
        yield from ()
        begun.set()
        assert go_on.wait(PATIENCE_SECONDS)

    from retrysafe.stores.sqlite.jobs import ThreadJob

    job = ThreadJob(program)
    store._machinery.submit(job)
    assert begun.wait(PATIENCE_SECONDS)
    try:
        yield
    finally:
        go_on.set()
        job.wait()


def recording(store: SQLiteStore, claim: Claim, outcome: bytes = b"the outcome") -> Callable[[], Program[Receipt]]:
    return lambda: store.verbs.record(claim, outcome, retention_seconds=DAY_SECONDS, tombstone_seconds=30 * DAY_SECONDS)
