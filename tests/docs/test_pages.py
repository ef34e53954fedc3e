"""Pages keep the house's words, lead nowhere wrong, and promise what tests name."""

import re

import pytest

from tests.docs.examples import PAGES, ROOT

LINK = re.compile(r"\]\(([^)\s]+)\)|<img[^>]* src=\"([^\"]+)\"")
WORDS_NEVER_SAID = re.compile(
    r"\b(zombie|cache hit|dedup|TTL|stale|orphan|exactly-once delivery|seamless\w*|blazing\w*|leverage\w*|simply)\b",
    re.IGNORECASE,
)
MAY_NAME_THEM = {"docs/reference/glossary.md"}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_a_file_leads_to_one(page: str) -> None:
    """The site builder checks links between pages; it does not see those of the README and of ARCHITECTURE.md."""
    path = PAGES[page]
    for target in (first or second for first, second in LINK.findall(path.read_text())):
        if not re.match(r"[a-z]+:|#", target):
            assert (path.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("page", sorted(PAGES.keys() - MAY_NAME_THEM))
def test_a_page_says_what_the_glossary_says(page: str) -> None:
    assert WORDS_NEVER_SAID.findall(PAGES[page].read_text()) == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_begins_with_its_title_and_has_no_other(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", PAGES[page].read_text(), flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"^# .*$", text, re.MULTILINE) == [text.partition("\n")[0]]


def test_rules_of_the_protocol_can_be_linked_to() -> None:
    text = PAGES["docs/explanation/protocol.md"].read_text()
    anchors = re.findall(r"^\*\*([A-Z]\d+)\*\*\{ #(\w+) \}", text, re.MULTILINE)
    assert len(anchors) > 40
    assert all(name.lower() == anchor for name, anchor in anchors)


def test_every_make_target_that_a_page_names_is_there() -> None:
    named = {
        target for path in PAGES.values() for target in re.findall(r"(?:^|`)make (\w+)", path.read_text(), re.MULTILINE)
    }
    assert {"demo", "test", "bench"} <= named
    assert named <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_changelog_names_the_version_that_is_built() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert f"## {version[1]}" in (ROOT / "CHANGELOG.md").read_text()
