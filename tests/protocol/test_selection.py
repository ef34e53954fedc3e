"""Fields that count and fields that do not (F4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrysafe.protocol.selection import Json, Selection, path_problem, selection

ORDER: Json = {
    "id": 7,
    "sent_at": "noon",
    "customer": {"name": "Ada", "seen": 1},
    "items": [{"sku": "a", "at": 1}, {"sku": "b", "at": 2}],
    "odd.name": 1,
}


def kept(*fields: str) -> Json:
    return _compiled(include=fields).of_json(ORDER)


def without(*fields: str) -> Json:
    return _compiled(exclude=fields).of_json(ORDER)


def _compiled(*, include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> Selection:
    compiled = selection(frozenset(include), frozenset(exclude))
    assert compiled is not None
    return compiled


def test_no_rules_are_no_selection() -> None:
    assert selection(frozenset(), frozenset()) is None


def test_included_fields_are_kept_with_what_lies_below_them() -> None:
    assert kept("$.id", "$.customer") == {"id": 7, "customer": {"name": "Ada", "seen": 1}}
    assert kept("$.customer.name") == {"customer": {"name": "Ada"}}
    assert kept("$.items[*].sku") == {"items": [{"sku": "a"}, {"sku": "b"}]}
    assert kept("$['odd.name']") == {"odd.name": 1}


def test_excluded_fields_are_left_out_and_nothing_else() -> None:
    assert without("$.sent_at", "$.items[*].at", "$.customer.seen", "$['odd.name']") == {
        "id": 7,
        "customer": {"name": "Ada"},
        "items": [{"sku": "a"}, {"sku": "b"}],
    }
    assert without("$.items[*]") == {**_members(ORDER), "items": []}


def test_a_field_that_is_not_there_is_no_error() -> None:
    assert without("$.nothing", "$.id.below", "$.customer[*].x", "$.items.x") == ORDER
    assert kept("$.nothing", "$.id.below", "$.customer[*].x") == {"id": None, "customer": {}}


def test_a_field_covers_what_is_named_below_it_in_any_order() -> None:
    for fields in (("$.customer", "$.customer.name"), ("$.customer.name", "$.customer")):
        assert kept(*fields) == {"customer": {"name": "Ada", "seen": 1}}
        assert "customer" not in _members(without(*fields))


def test_paths_do_not_apply_to_forms_and_names_do_not_apply_to_json() -> None:
    """F4: a rule for forms alone must not make every JSON body look alike."""
    names, paths = _compiled(include=("id",)), _compiled(include=("$.id",))
    assert names.of_json(ORDER) == ORDER
    assert names.has(b"id")
    assert not names.has(b"sent_at")
    assert paths.has(b"sent_at")


@pytest.mark.parametrize("path", ["$.a", "$.a.b", "$.items[*].ts", "$[*]", "$['a b'].c", "$.ümlaut", "field", "a.b[]"])
def test_a_field_that_can_be_read_has_no_problem(path: str) -> None:
    assert path_problem(path) is None


@pytest.mark.parametrize(
    "path", ["", "$", "$.", "$a", "$.a.", "$..a", "$.a[0]", "$.a[*", "$.*", "$.a b", "$['']", "$.a['b", "$.a['b']c"]
)
def test_a_field_that_cannot_be_read_is_named_with_its_fix(path: str) -> None:
    problem = path_problem(path)
    assert problem is not None
    assert ("write it like" in problem) or ("remove it" in problem)


@given(st.text(max_size=12).map("$".__add__))
def test_no_text_breaks_the_reader_of_paths(path: str) -> None:
    if path_problem(path) is None:
        _compiled(exclude=(path,)).of_json(ORDER)


json = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["x", "y"]),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from("abc"), below, max_size=3),
    max_leaves=12,
)
paths = st.lists(st.sampled_from([".a", ".b", ".c", "[*]"]), min_size=1, max_size=3).map(
    lambda path: "$" + "".join(path)
)


@given(json, st.lists(paths, min_size=1, max_size=3))
def test_selecting_twice_changes_nothing_more(document: Json, fields: list[str]) -> None:
    """F4: and the document itself stays as it was."""
    before = repr(document)
    for rules in (_compiled(include=tuple(fields)), _compiled(exclude=tuple(fields))):
        once = rules.of_json(document)
        assert rules.of_json(once) == once
    assert repr(document) == before


def _members(document: Json) -> dict[str, Json]:
    assert isinstance(document, dict)
    return document
