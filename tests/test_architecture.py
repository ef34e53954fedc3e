"""ARCHITECTURE.md as tests: sizes, words, import rules and cost, and that each rule has a test."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "retrysafe"
MODULES = sorted(PACKAGE.rglob("*.py"))
DOCS = ROOT / "docs"
PROTOCOL = DOCS / "explanation" / "protocol.md"

LONGEST_FUNCTION = 40
LONGEST_MODULE = 400

type_of_function = (ast.FunctionDef, ast.AsyncFunctionDef)


def _place(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _function_sizes(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of each function without decorators and docstring."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, type_of_function):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            if ast.get_docstring(node) is not None:
                docstring = node.body[0]
                size -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
            yield size, f"{_place(path)}:{node.lineno} {node.name}"


def test_functions_fit_on_a_screen(figure: Callable[[str], None]) -> None:
    sizes = sorted((size for path in MODULES for size in _function_sizes(path)), reverse=True)
    for lines, where in sizes[:5]:
        figure(f"longest functions: {lines:4d} lines  {where}")
    assert [size for size in sizes if size[0] > LONGEST_FUNCTION] == []


def test_modules_can_be_read_in_one_sitting(figure: Callable[[str], None]) -> None:
    sizes = sorted(((len(path.read_text().splitlines()), _place(path)) for path in MODULES), reverse=True)
    for lines, where in sizes[:5]:
        figure(f"longest modules:   {lines:4d} lines  {where}")
    assert [size for size in sizes if size[0] > LONGEST_MODULE] == []


def test_the_import_contracts_hold() -> None:
    _run(str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache")


def test_modules_inside_the_package_do_not_import_its_root() -> None:
    """The root collects the public names; importing it from below closes a circle. The demo is a user."""
    below = [path for path in MODULES if "demo" not in path.parts and path.parent != PACKAGE]
    for path in below:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.ImportFrom(module="retrysafe", level=0):
                    names = [alias.name for alias in node.names]
                case ast.Import(names=aliases) if any(alias.name == "retrysafe" for alias in aliases):
                    names = ["retrysafe"]
                case _:
                    continue
            for name in names:
                is_submodule = (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()
                assert is_submodule, f"{_place(path)}:{node.lineno} imports {name} from the root"


_LOADED_BY_IMPORT = """
import json, sys
before = set(sys.modules)
import retrysafe
print(json.dumps(sorted(set(sys.modules) - before)))
"""

# Each of these costs every process that imports the library, and none is needed before a store, a server or a
# command is chosen.
TOO_DEAR_TO_IMPORT = {
    "email",
    "http.client",
    "http.server",
    "importlib.metadata",
    "multiprocessing",
    "sqlite3",
    "unittest",
    "urllib.request",
    "xml",
    "zipfile",
}


def test_importing_the_library_loads_one_dependency_and_nothing_dear(figure: Callable[[str], None]) -> None:
    loaded = set(json.loads(_run(sys.executable, "-c", _LOADED_BY_IMPORT)))
    top_level = {name.partition(".")[0] for name in loaded}
    third_party = {name for name in top_level - sys.stdlib_module_names if name != "retrysafe"}
    # msgspec uses typing_extensions where it happens to be installed; it does not require it.
    assert third_party - {"typing_extensions"} <= {"msgspec"}
    assert loaded & TOO_DEAR_TO_IMPORT == set()
    milliseconds = min(_import_milliseconds() for _ in range(3))
    figure(f"import retrysafe:  {milliseconds:4.0f} ms, {len(loaded)} modules (best of three)")


def _import_milliseconds() -> float:
    """Time of the import alone, as the interpreter counts it. Printed, never asserted: machines differ."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import retrysafe"],
        capture_output=True,
        text=True,
        check=True,
    )
    [cumulative] = re.findall(r"\|\s+(\d+) \| retrysafe$", done.stderr, re.MULTILINE)
    return int(cumulative) / 1000


# Runs in a fresh interpreter: imports every module and reports what ran besides definitions.
_SEEN_ON_IMPORT = """
import importlib, json, logging, os, pkgutil, sys, threading

seen = []
ACTS = ("os.fork", "os.posix_spawn", "socket.bind", "socket.connect", "sqlite3.connect", "subprocess.Popen")
sys.addaudithook(lambda event, args: seen.append(event) if event in ACTS else None)
threading.Thread.start = lambda thread: seen.append(f"{thread.name} was started")

class Watched(type(os.environ)):
    def __getitem__(self, name):
        self._note(name)
        return super().__getitem__(name)
    def __contains__(self, name):
        self._note(name)
        return super().__contains__(name)
    def _note(self, name):
        frame = sys._getframe(2)
        while frame and frame.f_globals.get("__name__") in ("os", "collections.abc"):
            frame = frame.f_back
        if frame and frame.f_globals.get("__name__", "").startswith("retrysafe"):
            seen.append(f"{frame.f_globals['__name__']} reads {name}")

os.environ.__class__ = Watched
import retrysafe
for module in pkgutil.walk_packages(retrysafe.__path__, "retrysafe."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
if logging.root.handlers:
    seen.append("logging was configured")
print(json.dumps(seen))
"""


def test_nothing_runs_on_import() -> None:
    """No thread, process, connection, logging set-up or look at the environment, in any module."""
    assert json.loads(_run(sys.executable, "-c", _SEEN_ON_IMPORT)) == []


def test_only_the_command_line_and_the_gateway_read_the_environment() -> None:
    allowed = {"cli", "gateway", "demo"}
    for path in MODULES:
        if path.relative_to(PACKAGE).parts[0] not in allowed:
            assert not re.search(r"\bos\.(environ|getenv)\b", path.read_text()), _place(path)


NAMELESS_MODULES = {"utils", "util", "helpers", "common", "manager", "handler", "data", "info", "misc"}

# A whole public name. Left: what not to say; right: the word of the glossary, or what to ask oneself.
BANNED_NAMES = {
    "cache_hit": "replay",
    "checksum": "fingerprint",
    "data": "name what it is",
    "dedup_id": "key",
    "entry": "checkpoint",
    "expires_after": "retention",
    "expiry": "retention or lease",
    "info": "name what it is",
    "lock": "claim",
    "record_id": "operation_id",
    "request_id": "key, or operation_id",
    "result": "outcome",
    "signature": "fingerprint",
    "tenant": "scope",
    "user": "principal",
}

# A part of a public name: these mean nothing else anywhere in this library.
BANNED_PARTS = {
    "checksum": "fingerprint",
    "dedup": "key",
    "dedupe": "key",
    "orphan": "abandoned",
    "stale": "abandoned",
    "stuck": "parked",
    "tenant": "scope",
    "ttl": "lease or retention",
    "zombie": "abandoned",
}


class PublicName(NamedTuple):
    """An identifier that somebody outside its module may type."""

    text: str
    where: str


def _public(node: ast.AST, path: Path) -> Iterator[PublicName]:
    """Classes, functions, their parameters and declared fields; not what is private or inside a function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
            yield PublicName(child.target.id, f"{_place(path)}:{child.lineno}")
        if not isinstance(child, (*type_of_function, ast.ClassDef)) or child.name.startswith("_"):
            continue
        yield PublicName(child.name, f"{_place(path)}:{child.lineno}")
        if isinstance(child, ast.ClassDef):
            yield from _public(child, path)
        else:
            arguments = child.args
            for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                yield PublicName(argument.arg, f"{_place(path)}:{argument.lineno}")


def _parts(name: str) -> list[str]:
    """Split `snake_case` and `CamelCase` into lower-case words."""
    return [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def _objection(name: str) -> str | None:
    if name.startswith("_"):
        return None
    instead = BANNED_NAMES.get(name.lower())
    return instead or next((BANNED_PARTS[part] for part in _parts(name) if part in BANNED_PARTS), None)


def test_no_module_is_named_for_having_no_name() -> None:
    named = {_place(path): set(_parts(path.stem)) for path in MODULES}
    named |= {_place(path.parent): set(_parts(path.parent.name)) for path in MODULES}
    assert {place: words & NAMELESS_MODULES for place, words in named.items() if words & NAMELESS_MODULES} == {}


def test_public_names_use_the_words_of_the_glossary() -> None:
    names = {name for path in MODULES for name in _public(ast.parse(path.read_text()), path)}
    objections = [
        f"{name.where} {name.text}: say {instead}" for name in sorted(names) if (instead := _objection(name.text))
    ]
    assert objections == []


_RULE = re.compile(r"\b[KFCSEDRI]\d{1,2}\b")


def _rules_of_the_protocol() -> set[str]:
    return set(_RULE.findall(PROTOCOL.read_text()))


def test_every_rule_of_the_protocol_is_named_by_a_test() -> None:
    rules = _rules_of_the_protocol()
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    named = {rule for path in tests for rule in _RULE.findall(path.read_text())}
    missing = sorted(rules - named, key=lambda rule: (rule[0], int(rule[1:])))
    assert missing == [], f"no test names {' '.join(missing)}"


def test_docstrings_cite_only_rules_that_exist() -> None:
    rules = _rules_of_the_protocol()
    for path in MODULES:
        for cited in re.findall(r"^\s*Rules?: (.*)$", path.read_text(), re.MULTILINE):
            unknown = set(_RULE.findall(cited)) - rules
            assert unknown == set(), f"{_place(path)} cites {unknown}"


def test_the_navigation_names_every_page_and_no_other() -> None:
    """The site builder leaves out a page it does not find in the navigation, and says nothing."""
    named = re.findall(r"^ +- (?:[^#\n]+: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    pages = [str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")]
    assert sorted(named) == sorted(pages)


def test_the_pinned_tools_name_no_place_to_get_them_from() -> None:
    """Whoever installs them uses their own package index."""
    assert "://" not in (ROOT / "requirements" / "dev.txt").read_text()
