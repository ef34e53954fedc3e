from pathlib import Path

from retrysafe.demo.journal import Journal, read_journal
from retrysafe.runtime import events


def test_events_of_operations_are_noted_at_once(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(str(path))
    journal(events.Recovered("POST /orders", "op", 2))
    journal(events.Recorded("POST /orders", "op", 201, 0.1))
    journal(events.Unprotected("POST /orders", "no key"))
    journal.note("Charging", "op", attempt=2, order="1")
    notes = [(note.what, note.operation, note.attempt, note.order) for note in read_journal(path)]
    assert notes == [("Recovered", "op", 2, ""), ("Recorded", "op", 0, ""), ("Charging", "op", 2, "1")]


def test_a_line_that_is_not_complete_yet_is_left_for_later(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(str(path)).note("Claimed", "op", attempt=1)
    path.write_bytes(path.read_bytes() + b'{"at": 1')
    assert [note.what for note in read_journal(path)] == ["Claimed"]


def test_a_journal_that_nobody_began_is_empty(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "none") == []
