"""The facts of a document as a header of its message, so that a walk need not read bodies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from retrysafe.stores.documents.port import Facts
from retrysafe.stores.nats.bucket import DROP_AFTER, FACTS

# So long behind its tombstone a document is left to the purge; then the server drops it, where it can.
_SLACK_SECONDS = 3600.0
_NOTHING = "-"


class Seen(NamedTuple):
    """What a header says.

    Attributes:
        facts: of the document; its operation's id is not in the header.
        written_at: when it was written, by the store's clock.
    """

    facts: Facts
    written_at: float


def headers_of(facts: Facts, now: float, *, drops_by_itself: bool) -> dict[str, str]:
    """Return the headers of a document.

    Args:
        facts: what indexes must know of it.
        now: by the store's clock.
        drops_by_itself: whether the server can drop it by itself.
    """
    instants = (facts.open_at, facts.purge_at, facts.outbox_at, facts.audit_at, facts.forget_at)
    headers = {FACTS: " ".join([str(facts.number), repr(now), *map(_worded, instants)])}
    if drops_by_itself and facts.forget_at is not None:
        headers[DROP_AFTER] = f"{max(facts.forget_at - now, 0.0) + _SLACK_SECONDS:.0f}s"
    return headers


def seen_in(headers: Mapping[str, str]) -> Seen | None:
    """Read what :func:`headers_of` wrote; None when it is not there, or a newer version wrote something else."""
    return seen_in_line(headers.get(FACTS))


def seen_in_line(line: str | None) -> Seen | None:
    """Read the header itself."""
    try:
        number, now, *instants = (line or "").split(" ")
        opened, purge, outbox, audit, forget = map(_read, instants[:5])
        return Seen(Facts(int(number), "", opened, purge, outbox, audit, forget), float(now))
    except ValueError:
        return None


def _worded(instant: float | None) -> str:
    return _NOTHING if instant is None else repr(instant)


def _read(word: str) -> float | None:
    return None if word == _NOTHING else float(word)
