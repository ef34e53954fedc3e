"""The same protocol, written a second time in Promela and searched by Spin: both forms must agree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.model.cases import CASES, SHIPMENT, Case
from tests.model.explorer import LIVENESS

SPEC = Path(__file__).with_name("recovery.pml")
_COMPILER = shutil.which("cc") or shutil.which("gcc")


class Spin:
    """One variant of the spec in a folder of its own."""

    def __init__(self, folder: Path, macros: Sequence[str]) -> None:
        self._folder = folder
        self._macros = macros
        shutil.copy(SPEC, folder)

    def search(self, compile_with: Sequence[str] = ("-DSAFETY",), run_with: Sequence[str] = ()) -> str:
        """Generate the search, compile it and run it; return what it printed."""
        assert _COMPILER is not None
        self._run("spin", "-a", *self._macros, SPEC.name)
        # Not optimised: it runs for a moment, and the compiler would take seconds.
        self._run(_COMPILER, "-O0", "-w", *compile_with, "-o", "pan", "pan.c")
        printed = self._run("./pan", "-m100000", "-w18", *run_with)
        assert "Search not completed" not in printed, printed
        assert "max search depth too small" not in printed, printed
        return printed

    def trail(self) -> str:
        """Tell the way to the first thing that the last search that was compiled finds."""
        self._run("./pan", "-m100000", "-w18")
        return self._run("spin", "-t", *self._macros, SPEC.name)

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, check=False, timeout=100)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def spin(tmp_path: Path) -> Callable[..., Spin]:
    """Make a variant of the spec from macros."""
    if shutil.which("spin") is None or _COMPILER is None:
        missing = "the Promela spec needs Spin and a C compiler: apt-get install spin gcc"
        if os.environ.get("CI", "").lower() in {"", "0", "false"}:
            pytest.skip(missing)
        pytest.fail(missing)
    return lambda *macros: Spin(tmp_path, macros)


def _states(printed: str) -> int:
    [states] = re.findall(r"^ *(\d+) states, stored", printed, re.MULTILINE)
    return int(states)


def _errors(printed: str) -> int:
    [errors] = re.findall(r"errors: (\d+)", printed)
    return int(errors)


def _violated(printed: str) -> set[str]:
    """Return which invariants were violated, by id."""
    return {_id(name) for name in re.findall(r"assertion violated (I\d+|REST)_\w+", printed)}


def _id(name: str) -> str:
    return LIVENESS if name == "REST" else name


def _unreached(printed: str) -> list[str]:
    """Return the statements that were never executed, other than complaints and the ends of what never ends."""
    listed = re.findall(r"^unreached in (?:proctype )?(\S+)\n((?:\t.*\n)*)", printed, re.MULTILINE)
    assert {process for process, _ in listed} >= {"serve", "network", "time", "clients", "operator", "watch"}
    elsewhere = "".join(lines for process, lines in listed if process != "watch")
    return [line for line in re.findall(r'^\t.*, "(.*)"$', elsewhere, re.MULTILINE) if line != "-end-"]


@pytest.mark.parametrize("variant", ["order", "shipment"])
def test_with_every_protection_spin_finds_nothing_anywhere(
    variant: str, spin: Callable[..., Spin], figure: Callable[[str], None]
) -> None:
    """I1 to I12, and every operation comes to rest; and it has been everywhere, or that would say nothing."""
    printed = spin("-DCLAIMS=3", f"-D{variant.upper()}").search(("-DSAFETY", "-DNOREDUCE"))
    figure(f"model of recovery: {_states(printed):6d} states of Spin's, {variant}")
    assert _errors(printed) == 0
    assert _unreached(printed) == []


def test_no_run_of_the_spec_goes_on_for_ever(spin: Callable[..., Spin]) -> None:
    """So what is asserted when nothing moves any more is asserted of every run."""
    assert _errors(spin("-DSHIPMENT").search(("-DNP",), ("-l",))) == 0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.off)
def test_without_a_protection_spin_finds_what_the_explorer_finds(case: Case, spin: Callable[..., Spin]) -> None:
    """C1, C4, C5, F1, S1, R4, R5, R7, R12: the same invariants break, and no other."""
    variant = ["-DSHIPMENT"] if case.operation is SHIPMENT else []
    searched = spin(f"-D{case.macro}", *variant)
    assert _violated(searched.search(run_with=("-c0",))) == set(case.breaks)
    story = searched.trail()
    [failed] = re.findall(r"text of failed assertion: assert\((I\d+|REST)_\w+\)", story)
    assert _id(failed) in case.breaks
    assert re.search(r"^ *[AB] claims", story, re.MULTILINE)


def test_every_macro_is_explained_at_the_top_of_the_spec() -> None:
    top = SPEC.read_text().partition("*/")[0]
    explained = dict(re.findall(r"-D(NO_\w+) +([A-Z]\d+) ", top))
    assert explained == {case.macro: case.rule for case in CASES}
