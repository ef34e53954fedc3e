"""Built and installed, the distribution brings its scheme to every place that takes a store's URL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.services.service import Service

PROJECT = Path(__file__).resolve().parent.parent


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_the_command_line_finds_the_store_by_its_url(dynamodb: Service, tmp_path: Path) -> None:
    site = tmp_path / "site"
    built = python("-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(PROJECT))
    assert built.returncode == 0, built.stdout + built.stderr
    [wheel] = tmp_path.glob("*.whl")
    where = ("--quiet", "--no-index", "--no-deps", "--target", str(site), str(wheel))
    installed = python("-m", "pip", "install", *where)
    assert installed.returncode == 0, installed.stderr
    url = f"dynamodb://tests-distribution?region=eu-central-1&endpoint={dynamodb.url}&shards=1"
    done = python(
        *("-m", "retrysafe", "store", "bench", url, "--pairs", "20", "--json"),
        PYTHONPATH=str(site),
        AWS_ACCESS_KEY_ID="tests",
        AWS_SECRET_ACCESS_KEY="tests",
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert [(each["face"], each["at_once"]) for each in found["slices"]] == [
        (face, at_once) for face in ("sync", "async") for at_once in (1, 16, 64)
    ]
    assert found["durability"] == "quorum"
