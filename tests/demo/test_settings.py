import pytest

from retrysafe.demo.settings import DemoSettings
from retrysafe.errors import ConfigurationError


def test_the_defaults_are_what_the_readme_shows() -> None:
    settings = DemoSettings()
    assert (settings.orders, settings.drop, settings.kill_after_seconds) == (150, 0.30, 0.25)
    assert settings.declared_mode == "again"


def test_a_keyless_bank_makes_the_lane_declare_once_unless_told_otherwise() -> None:
    assert DemoSettings(keyless_bank=True).declared_mode == "once"
    assert DemoSettings(keyless_bank=True, mode="again").declared_mode == "again"


def test_both_acts_are_played_but_the_second_needs_a_bank_that_honours_keys() -> None:
    assert DemoSettings().acts == ["lanes", "checkout"]
    assert DemoSettings(keyless_bank=True).acts == ["lanes"]
    assert DemoSettings(only="checkout").acts == ["checkout"]
    with pytest.raises(ConfigurationError, match="honours keys"):
        DemoSettings(only="checkout", keyless_bank=True)


def test_every_problem_is_listed_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        DemoSettings(orders=0, drop=1.5, parallel=0, kills=-1, bank_seconds=0, checkouts=0)
    assert len(caught.value.problems) == 6
