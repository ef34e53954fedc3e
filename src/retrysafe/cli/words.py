"""How durations, sizes, instants and foreign text are written for people."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

_UNITS = ((1.0, "s", 60), (60.0, "min", 60), (3_600.0, "h", 48))
_DAY_SECONDS = 86_400.0
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024


def duration(seconds: float) -> str:
    """Write a duration with one unit: ``0.8 ms``, ``14 s``, ``3 min``, ``36 h``, ``30 d``; the sign is dropped."""
    seconds = abs(seconds)
    if round(seconds) < 1:
        milliseconds = seconds * 1000
        return f"{milliseconds:.0f} ms" if milliseconds >= 10 or not milliseconds else f"{milliseconds:.2g} ms"
    for unit_seconds, name, too_many in _UNITS:
        # Rounded first, so that 59.7 s is a minute and never "60 s".
        if (number := round(seconds / unit_seconds)) < too_many:
            return f"{number} {name}"
    return f"{round(seconds / _DAY_SECONDS)} d"


def size(octets: int) -> str:
    """Write a number of bytes: ``512 B``, ``1.2 MiB``."""
    number, names = float(octets), iter(_BINARY)
    name = next(names)
    for larger in names:
        if number < _STEP:
            break
        number, name = number / _STEP, larger
    digits = f"{number:.0f}" if name == "B" or number >= 100 else f"{number:.1f}".removesuffix(".0")
    return f"{digits} {name}"


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: ``1 finding``, ``2 findings``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def instant(at: float) -> str:
    """Write an instant for people: ``2026-11-24 06:28:55Z``."""
    return _utc(at).strftime("%Y-%m-%d %H:%M:%SZ")


def iso(at: float | None) -> str | None:
    """Write an instant for programs (RFC 3339, milliseconds); None stays None."""
    return None if at is None else _utc(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _utc(at: float) -> datetime:
    try:
        return datetime.fromtimestamp(at, UTC)
    except (OverflowError, ValueError, OSError):
        # A retention may reach beyond the calendar.
        return datetime.max.replace(tzinfo=UTC)


def printable(text: str, *, lines: bool = False) -> str:
    """Make text that callers of a service chose harmless for a terminal: what is not printable is escaped.

    Paths, principals and bodies may hold escape sequences that would move the cursor, or letters that run backwards.

    Args:
        text: what a store holds.
        lines: leave line ends and tabs as they are.
    """
    kept = "\n\t" if lines else ""
    return "".join(sign if sign.isprintable() or sign in kept else _escaped(sign) for sign in text)


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")


def shortest_ids(ids: Iterable[str]) -> int:
    """Tell how many characters of each operation id are enough to tell these apart.

    An id begins with its millisecond and 12 random bits, and ends a group of digits there (18 characters): enough to
    tell it from thousands of others made in that second, which may not be among these.
    """
    known = set(ids)
    return next((length for length in (18, 23) if len({name[:length] for name in known}) == len(known)), 36)
