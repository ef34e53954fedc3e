"""The root package is the public surface: short, exact and documented."""

import inspect
from types import ModuleType

import pytest

import retrysafe


def _importable_names() -> set[str]:
    """Names a star would wish for: public, and not merely a submodule that got loaded."""
    return {
        name
        for name, value in vars(retrysafe).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }


def _linter_order(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, as the linter sorts `__all__`."""
    if name.isupper() and len(name) > 1:
        return 0, name
    return (1, name) if name[0].isupper() else (2, name)


def test_all_is_exactly_what_can_be_imported() -> None:
    dunders = {name for name in retrysafe.__all__ if name.startswith("__")}
    assert set(retrysafe.__all__) - dunders == _importable_names()
    assert all(hasattr(retrysafe, name) for name in dunders)


def test_all_is_sorted_and_names_nothing_twice() -> None:
    assert list(retrysafe.__all__) == sorted(set(retrysafe.__all__), key=_linter_order)


def test_the_public_surface_is_short_enough_to_learn() -> None:
    assert len(retrysafe.__all__) <= 40


@pytest.mark.parametrize("name", retrysafe.__all__)
def test_every_public_name_says_what_it_is(name: str) -> None:
    value = getattr(retrysafe, name)
    if inspect.isclass(value) or inspect.isroutine(value):
        # Not `getdoc`, which would be content with what a base class says.
        assert value.__doc__, f"{name} has no docstring"
    else:
        assert inspect.getdoc(value), f"{name} has no docstring, and neither has its type"
