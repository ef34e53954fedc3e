"""The process: exit codes, and what it costs to ask for help."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Shop

_HELP = """
import sys
sys.argv[1:] = {arguments!r}
from retrysafe.cli.main import main
try:
    main()
finally:
    print([name for name in ("rich", "sqlite3", "uvicorn") if name in sys.modules], file=sys.stderr)
"""
_MISSING = "import sys; sys.modules[{name!r}] = None; sys.argv = ['retrysafe', *{arguments!r}]\n"


def _process(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {name: value for name, value in os.environ.items() if name != "RETRYSAFE_STORE_URL"} | environment
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, timeout=60, env=settings
    )


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["ops", "--help"], ["ops", "ls", "--help"], ["doctor", "-h"], ["explain"]]
)
def test_help_and_the_version_load_no_driver_no_server_and_no_rich(arguments: list[str]) -> None:
    done = _process("-c", _HELP.format(arguments=arguments))
    assert done.returncode == 0
    assert done.stdout
    assert done.stderr == "[]\n"


def test_importing_the_entry_point_loads_no_driver_and_no_server() -> None:
    check = "import sys, retrysafe.cli.main; print({'sqlite3', 'uvicorn', 'rich', 'click'} & set(sys.modules))"
    assert _process("-c", check).stdout == "set()\n"


def test_the_module_and_the_script_are_one() -> None:
    script = str(Path(sys.executable).with_name("retrysafe"))
    by_script = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert _process("-m", "retrysafe", "--version").stdout == by_script.stdout
    assert by_script.stdout.startswith("retrysafe ")


def test_without_click_one_sentence_names_the_extra() -> None:
    done = _process(
        "-c", _MISSING.format(name="click", arguments=["--help"]) + "import retrysafe.__main__ as m; m.main()"
    )
    assert done.returncode == 1
    assert done.stderr == "error: the command line needs click: pip install 'retrysafe[cli]'\n"


def test_without_rich_one_sentence_names_the_extra(shop: Shop) -> None:
    shop.one_of_each()
    missing = _MISSING.format(name="rich", arguments=["ops", "ls", shop.url])
    for name in ("rich.console", "rich.table", "rich.live", "rich.text"):
        missing += f"sys.modules[{name!r}] = None\n"
    done = _process("-c", missing + "from retrysafe.cli.main import main; main()")
    assert done.returncode == 1
    assert "pip install 'retrysafe[cli]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_module_that_is_not_ours_to_explain_stays_a_traceback(tmp_path: Path) -> None:
    broken = "from retrysafe.cli.main import main; import retrysafe.cli.commands as c\n"
    broken += "def fail(**_): raise ModuleNotFoundError('no', name='elsewhere')\nc.root.main = fail\nmain()"
    assert "Traceback" in _process("-c", broken).stderr


def test_exit_codes_are_0_for_well_1_for_findings_or_failure_and_2_for_usage(shop: Shop, tmp_path: Path) -> None:
    shop.one_of_each()
    codes = {
        ("ops", "ls", shop.url): 0,
        ("explain", "E021"): 0,
        ("doctor",): 0,
        ("doctor", shop.url): 1,
        ("ops", "ls", f"sqlite:///{tmp_path}/elsewhere.db"): 1,
        ("ops", "ls"): 2,
        ("ops", "ls", "--sideways"): 2,
        ("ops", "ls", "memory://"): 2,
        ("ops", "show", shop.url, "ffff"): 2,
        ("explain", "E999"): 2,
        ("nonsense",): 2,
    }
    for arguments, code in codes.items():
        done = _process("-m", "retrysafe", *arguments)
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr


def test_the_store_may_come_from_the_environment(shop: Shop) -> None:
    ids = shop.one_of_each()
    done = _process("-m", "retrysafe", "ops", "ls", "--json", RETRYSAFE_STORE_URL=shop.url)
    assert len(json.loads(done.stdout)["operations"]) == len(ids)
    done = _process("-m", "retrysafe", "ops", "show", ids["parked"], "--json", RETRYSAFE_STORE_URL=shop.url)
    assert json.loads(done.stdout)["operation"] == ids["parked"]


def test_a_terminal_without_unicode_gets_plain_signs(shop: Shop) -> None:
    ids = shop.one_of_each()
    done = _process("-m", "retrysafe", "ops", "show", shop.url, ids["parked"], PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "#  parked: the bank did not answer" in done.stdout
