"""What pages say about the code is what the code says."""

import re
from collections.abc import Iterable

import pytest

from retrysafe.protocol.states import TRANSITIONS, State
from retrysafe.stores.rows import one_of
from tests.docs import diagram
from tests.docs.examples import PAGES, ROOT
from tests.docs.generated import BLOCKS, filled, names_of_blocks

WRITE_IT = "run: python -m tests.docs.generated"


@pytest.mark.parametrize("page", [page for page, path in PAGES.items() if names_of_blocks(path.read_text())])
def test_a_page_says_of_the_code_what_the_code_is(page: str) -> None:
    text = PAGES[page].read_text()
    assert text == filled(text), WRITE_IT


def test_every_block_is_on_some_page_and_on_one_only() -> None:
    names = [name for path in PAGES.values() for name in names_of_blocks(path.read_text())]
    assert sorted(names) == sorted(BLOCKS)


def test_the_picture_of_the_states_is_the_table_of_the_states() -> None:
    assert (ROOT / "docs" / "images" / "states.svg").read_text() == diagram.states(), WRITE_IT


def test_the_picture_of_the_states_has_every_state_and_every_move() -> None:
    moves = re.findall(r"<title>(\w+) to (\w+)</title>", diagram.states())
    assert set(moves) == {(source, target) for source, targets in TRANSITIONS.items() for target in targets}
    assert set(diagram.PLACES) == set(State)


def test_the_schema_checks_the_states_that_there_are() -> None:
    """I1: what no move of the table leads to is in no database."""
    schema = (ROOT / "src/retrysafe/stores/sqlite/migrations/0001_checkpoint.sql").read_text()
    [check] = re.findall(r"state TEXT NOT NULL CHECK \((.*?)\n    \)", schema, re.DOTALL)
    assert _words(check) == _words(one_of(State).strip("()"))


def _words(text: str) -> Iterable[str]:
    return text.split()
