"""Errors in the shape that people like."""

import click
import pytest
from click.testing import CliRunner

from retrysafe.cli.complaints import Commands, Complaint, Misuse
from retrysafe.errors import ConfigurationError, RetrySafeError, SchemaMismatch, StoreCorrupt, StoreUnavailable


def _text(complaint: Complaint) -> str:
    return click.unstyle(complaint.text())


def test_an_error_of_the_library_has_its_number_its_place_its_fix_and_where_to_read_on() -> None:
    text = _text(Complaint.about(StoreUnavailable("/srv/x.db: database is locked"), where="sqlite:////srv/x.db"))
    assert text.splitlines()[:2] == ["error[E031]: /srv/x.db: database is locked", "  --> sqlite:////srv/x.db"]
    assert "   = fix: Bring the store back" in text
    assert text.endswith("   = more: retrysafe explain E031")


def test_a_schema_that_is_too_old_names_the_very_command() -> None:
    text = _text(Complaint.about(SchemaMismatch(3, 5), where="sqlite:///x.db"))
    assert "error[E040]: the store has schema version 3, this code needs 5" in text
    assert "   = fix: retrysafe migrate sqlite:///x.db\n" in text
    assert "   = or : " in text


def test_a_schema_that_is_too_new_is_no_case_for_migrate() -> None:
    text = _text(Complaint.about(SchemaMismatch(6, 5)))
    assert "upgrade retrysafe" in text
    assert "migrate" not in text


def test_a_configuration_error_lists_every_problem() -> None:
    text = _text(Complaint.about(ConfigurationError(["scan is 0: choose more", "no principal: say who calls"])))
    assert "error[E001]: 2 problems" in text
    assert "   |  1. scan is 0: choose more" in text
    assert "   |  2. no principal: say who calls" in text
    assert _text(Complaint.about(ConfigurationError(["only one"]))).startswith("error[E001]: only one\n")


def test_nothing_in_an_error_can_drive_the_terminal() -> None:
    assert "\x1b" not in _text(Complaint("\x1b[2J", where="\x1b[2J", facts=["\x1b[2J"], fixes=["\x1b[2J"]))


def test_usage_and_failure_end_differently() -> None:
    assert Complaint("it broke").exit_code == 1
    assert Misuse("what is that?").exit_code == 2


@pytest.mark.parametrize("error", [StoreCorrupt("file is not a database"), RetrySafeError("anything")])
def test_a_command_may_raise_what_the_library_raises(error: RetrySafeError) -> None:
    @click.group(cls=Commands)
    def group() -> None:
        pass

    @group.command()
    def fails() -> None:
        raise error

    outcome = CliRunner().invoke(group, ["fails"])
    assert outcome.exit_code == 1
    assert outcome.stderr.startswith("error[E0")


def test_no_color_is_honoured_even_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.group(cls=Commands)
    def group() -> None:
        pass

    @group.command()
    def fails() -> None:
        raise Complaint("it broke")

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("retrysafe.cli.terminal.colours", lambda: True)
    assert "\x1b[" in CliRunner().invoke(group, ["fails"], color=True).stderr
    monkeypatch.undo()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in CliRunner().invoke(group, ["fails"], color=True).stderr
