"""Durations, sizes, instants and foreign text."""

import pytest

from retrysafe.cli.words import counted, duration, instant, iso, printable, shortest_ids, size
from retrysafe.runtime.clock import uuid7


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "0 ms"),
        (0.0008, "0.8 ms"),
        (0.0123, "12 ms"),
        (0.4, "400 ms"),
        (1.0, "1 s"),
        (14.2, "14 s"),
        (59.4, "59 s"),
        (59.7, "1 min"),
        (185, "3 min"),
        (3599, "1 h"),
        (3600, "1 h"),
        (36 * 3600, "36 h"),
        (30 * 86400, "30 d"),
        (-14.2, "14 s"),
    ],
)
def test_durations_have_one_unit(seconds: float, written: str) -> None:
    assert duration(seconds) == written


@pytest.mark.parametrize(
    ("octets", "written"),
    [(0, "0 B"), (512, "512 B"), (1024, "1 KiB"), (1258291, "1.2 MiB"), (300 * 1024, "300 KiB"), (1 << 50, "1024 TiB")],
)
def test_sizes_have_binary_units(octets: int, written: str) -> None:
    assert size(octets) == written


def test_nouns_follow_their_number() -> None:
    assert [counted(number, "finding") for number in (0, 1, 2, 1234)] == [
        "0 findings",
        "1 finding",
        "2 findings",
        "1,234 findings",
    ]


def test_instants_are_utc_and_may_lie_beyond_the_calendar() -> None:
    assert instant(1_700_000_000.9) == "2023-11-14 22:13:20Z"
    assert iso(1_700_000_000.5) == "2023-11-14T22:13:20.500Z"
    assert iso(None) is None
    assert instant(1e15).startswith("9999-")


def test_foreign_text_cannot_drive_the_terminal() -> None:
    assert printable("\x1b[2J\r\x07") == r"\x1b[2J\r\x07"
    assert printable("a\u202eb") == r"a\u202eb", "letters that run backwards"
    assert printable("\udc80") == r"\udc80", "a lone surrogate could not even be written"
    assert printable("Müller 🙂") == "Müller 🙂"
    assert printable("a\nb") == r"a\nb"
    assert printable("a\n\tb\x1b", lines=True) == "a\n\tb\\x1b"


def test_short_ids_tell_apart_what_is_listed() -> None:
    ids = [uuid7() for _ in range(50)]
    length = shortest_ids(ids)
    assert length < 36
    assert len({name[:length] for name in ids}) == len(ids)
    twins = ["01900000-0000-7000-8000-000000000001", "01900000-0000-7000-8000-000000000002"]
    assert shortest_ids(twins) == 36
    assert shortest_ids([]) == 18
