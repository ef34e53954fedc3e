"""A case that a flow forgets must be noticed by both type checkers, before it runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECKERS = {
    "mypy": [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "--no-incremental"],
    "pyright": [str(Path(sys.executable).with_name("pyright")), "--pythonpath", sys.executable],
}
FORGOTTEN = {
    "a verdict in handle": ("protocol/flows.py", r"            case Expired\(checkpoint\):\n(?:                .*\n)+"),
    "a reply in the tail": (
        "protocol/flows.py",
        r"        case fx\.Began\(outcome\):\n(?:            .*\n)+?(?=        case)",
    ),
    "a state in judge": ("protocol/verdicts.py", r"        case State\.EXPIRED:\n            .*\n"),
    "an effect in the engine": ("runtime/engine.py", r"            case fx\.StillHeld\(claim\):\n                .*\n"),
}


@pytest.mark.parametrize("checker", CHECKERS)
def test_a_forgotten_case_fails_the_type_check(checker: str, tmp_path: Path) -> None:
    """Each of four exhaustive matches, robbed of one case, is an error for mypy and for pyright."""
    package = tmp_path / "retrysafe"
    shutil.copytree(ROOT / "src" / "retrysafe", package, ignore=shutil.ignore_patterns("__pycache__"))
    robbed: set[str] = set()
    for name, (file, case) in FORGOTTEN.items():
        path = package / file
        text, count = re.subn(case, "", path.read_text(), count=1)
        assert count == 1, f"the test no longer finds {name}"
        path.write_text(text)
        robbed.add(file)
    check = subprocess.run(
        [*CHECKERS[checker], *(str(package / file) for file in sorted(robbed))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    complaints = [
        line for line in check.stdout.splitlines() if ("error" in line and "assert_never" in line) or "Never" in line
    ]
    assert check.returncode == 1, check.stdout + check.stderr
    assert len(complaints) >= len(FORGOTTEN), check.stdout


def test_the_untouched_package_passes_the_same_check() -> None:
    """Without this, the test above could pass for another reason."""
    check = subprocess.run(
        [*CHECKERS["mypy"], "src/retrysafe/protocol", "src/retrysafe/runtime/engine.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert check.returncode == 0, check.stdout
