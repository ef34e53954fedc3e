"""Every example on every page works, as the page stands."""

import os
import shutil
from pathlib import Path

import pytest

from tests.docs.examples import PAGES, Runner, like, session


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_work(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "$ curl" in PAGES[page].read_text() and shutil.which("curl") is None:
        what = "this page's sessions need curl: apt-get install curl"
        if os.environ.get("CI", "").lower() in {"", "0", "false"}:
            pytest.skip(what)
        pytest.fail(what)
    monkeypatch.chdir(tmp_path)
    Runner(tmp_path).run(PAGES[page])


def test_a_session_is_commands_and_what_they_print() -> None:
    assert session("$ ls\na\nb\n$ cd a\n") == [("ls", "a\nb\n"), ("cd a", "")]


def test_what_differs_from_run_to_run_is_not_compared() -> None:
    assert like("op 01a20c44-53ee  4 s\n...\nend", "op 01ffffff-aaaa  120 ms\n1\n2\nend")
    assert not like("201", "409")
