"""``retrysafe demo``: the options reach the demo, and what is missing is named."""

import subprocess
import sys

import pytest

from retrysafe.demo import run as demo_run
from retrysafe.demo.settings import DemoSettings
from tests.cli.conftest import Run


def test_options_reach_the_demo_and_its_exit_code_is_ours(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[DemoSettings] = []

    def fake(settings: DemoSettings) -> int:
        seen.append(settings)
        return 1

    monkeypatch.setattr(demo_run, "run_demo", fake)
    assert run("demo", "--orders", "9", "--seed", "4", "--lite", "--keyless-bank").exit_code == 1
    assert run("demo").exit_code == 1
    assert seen == [
        DemoSettings(orders=9, seed=4, lite=True, keyless_bank=True, command="retrysafe demo"),
        DemoSettings(command="retrysafe demo"),
    ]


def test_without_uvicorn_the_extra_is_named() -> None:
    code = "import sys; sys.modules['uvicorn'] = None; sys.argv = ['retrysafe', 'demo']\n"
    code += "from retrysafe.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "retrysafe[demo]" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_demo_without_orders_is_refused(run: Run) -> None:
    assert run("demo", "--orders", "0").exit_code == 2
