"""An environment of its own for each peer, made by the run and kept in ``.cache``: none is a dependency of ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from bench.children import ROOT

# The same application under the same server as ours, in the same versions.
_COMMON = ("fastapi", "starlette", "pydantic", "uvicorn", "uvloop", "httptools")
_AT_MOST_SECONDS = 180


class NotInstalled(RuntimeError):
    """The environment cannot be made; says why."""


def python_of(name: str, requirements: tuple[str, ...]) -> str:
    """Return the interpreter of an environment with these requirements; make it unless it is there.

    Raises:
        NotInstalled: what is needed cannot be had.
    """
    wanted = [*requirements, *(f"{package}=={version(package)}" for package in _COMMON)]
    place = ROOT / ".cache" / "peers" / name
    python, made = place / "bin" / "python", place / "requirements.txt"
    if not made.exists() or made.read_text().split() != wanted:
        shutil.rmtree(place, ignore_errors=True)
        uv = Path(sys.executable).with_name("uv")
        try:
            _run(sys.executable, "-m", "venv", *(["--without-pip"] if uv.exists() else []), str(place))
            if uv.exists():
                _run(str(uv), "pip", "install", "--system-certs", "--python", str(python), *wanted)
            else:
                _run(str(python), "-m", "pip", "install", "--disable-pip-version-check", *wanted)
        except (OSError, subprocess.SubprocessError) as error:
            said = str(getattr(error, "stderr", None) or error).strip().splitlines()
            raise NotInstalled(said[-1] if said else "pip failed") from error
        made.write_text("\n".join(wanted))
    return str(python)


def _run(*command: str) -> None:
    environment = {**os.environ, "UV_LINK_MODE": "copy"}
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=_AT_MOST_SECONDS, env=environment)
