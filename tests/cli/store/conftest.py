"""The command line in a process of its own, with somebody else's store installed beside it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from retrysafe.cli.opening import STORE_URL

Command = Callable[..., subprocess.CompletedProcess[str]]

_PROJECT = """
[project]
name = "retrysafe-shelf"
version = "1"
dependencies = ["retrysafe"]

[project.entry-points."retrysafe.stores"]
shelf = "retrysafe_shelf:from_url"

[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
"""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the distribution of the shelf, and install it into a folder."""
    project, site = tmp_path_factory.mktemp("shelf"), tmp_path_factory.mktemp("site")
    (project / "pyproject.toml").write_text(_PROJECT)
    (project / "retrysafe_shelf").mkdir()
    module = Path(__file__).with_name("shelf.py").read_text()
    (project / "retrysafe_shelf" / "__init__.py").write_text(module)
    _python("-m", "build", "--wheel", "--no-isolation", "--outdir", str(project), str(project))
    [wheel] = project.glob("*.whl")
    _python("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(site), str(wheel))
    return site


@pytest.fixture
def command(site: Path, tmp_path: Path) -> Command:
    """Run ``retrysafe`` where nothing is but what the test puts there."""
    environment = {name: value for name, value in os.environ.items() if name != STORE_URL}

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "retrysafe", *arguments],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": str(site), "NO_COLOR": "1", **more},
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )

    return run


def _python(*arguments: str) -> None:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
