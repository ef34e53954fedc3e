import io
import sys

import pytest

from retrysafe.demo.screen import Screen
from retrysafe.protocol.states import State
from tests.demo.reports import paid, posting, report

_REPORT = report({"1": paid("1")}, [posting("1"), posting("1", "ch_x")], {State.DONE: 1})


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _shown(screen: Screen, out: io.StringIO) -> str:
    with screen:
        screen.show([_REPORT])
    screen.print_table([_REPORT])
    return out.getvalue()


def test_a_file_gets_plain_text() -> None:
    out = io.StringIO()
    screen = Screen(out)
    assert screen.is_live is False
    assert "\x1b" not in _shown(screen, out)


def test_a_terminal_gets_a_live_display_unless_lite_is_asked_for() -> None:
    out = _Terminal()
    screen = Screen(out)
    assert screen.is_live is True
    assert "charges at the bank" in _shown(screen, out)
    assert Screen(_Terminal(), lite=True).is_live is False


def test_without_rich_a_terminal_gets_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "retrysafe.demo.live", None)
    assert Screen(_Terminal()).is_live is False
