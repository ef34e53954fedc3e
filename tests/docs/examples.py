"""The examples of a page: Python is run, files are written, shell sessions are typed into a real shell.

What a block is, its first line says. ``python`` runs. ``python title="shop.py"`` is a file. ``console`` is a session:
its lines with ``$`` are typed, and the others are what must come out, where ``...`` stands for anything. Python that
readers need not see stands in a comment that begins with ``<!--- invisible-code-block: python``.
"""

import asyncio
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, OutputChecker
from pathlib import Path
from typing import Any

import httpx
from sybil import Document, Example, Region, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.abstract.lexers import LexerCollection
from sybil.parsers.markdown.lexers import DirectiveInHTMLCommentLexer, RawFencedCodeBlockLexer

from retrysafe import RetrySafe

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in (
        *sorted((ROOT / "docs").rglob("*.md")),
        *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")),
    )
}

LANGUAGES_TO_READ = {"http", "sh", "sql", "text", "toml"}
"""Of blocks that only show something."""

_PATIENCE_SECONDS = 30.0
_PORT_OF_THE_PAGES = "8765"
_FOLDER_OF_THE_PAGES = "/tmp/lesson"  # noqa: S108 - a name on a page; a folder of the test takes its place
_lexers = LexerCollection(
    [
        RawFencedCodeBlockLexer(re.compile(r"(?P<info>[^\n]*)\n"), {"info": "info", "source": "source"}),
        DirectiveInHTMLCommentLexer("invisible-code-block", "python", {"arguments": "info", "source": "source"}),
    ]
)


class Runner:
    """Runs the examples of one page in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._python = PythonEvaluator()
        self._shell: Shell | None = None
        self._guards: list[RetrySafe] = []

    def run(self, path: Path) -> int:
        """Run every example of a page, from top to bottom, and return how many there were."""
        document = Sybil([self._regions], filenames=[path.name]).parse(path)
        document.namespace.update(__name__="__main__", call=call)
        examples = list(document.examples())
        try:
            for example in examples:
                example.evaluate()
        finally:
            self._guards += [value for value in document.namespace.values() if isinstance(value, RetrySafe)]
            for guard in self._guards:
                guard.close()
            if self._shell is not None:
                self._shell.close()
        return len(examples)

    def _regions(self, document: Document) -> list[Region]:
        regions = []
        for region in _lexers(document):
            language, _, options = region.lexemes["info"].strip().partition(" ")
            region.parsed = region.lexemes["source"]
            if title := re.search(r'title="([^"]+)"', options):
                region.evaluator = self._write(self._folder / title[1])
            elif language == "python":
                region.evaluator = self._python
            elif language == "console":
                region.evaluator = self._type
            else:
                assert language in LANGUAGES_TO_READ, f"{document.path}: what is a block of {language!r}?"
                continue
            regions.append(region)
        return regions

    @staticmethod
    def _write(path: Path) -> Callable[[Example], None]:
        def write(example: Example) -> None:
            path.write_text(str(example.parsed))

        return write

    def _type(self, example: Example) -> None:
        if self._shell is None:
            self._shell = Shell(self._folder)
        for command, wanted in session(str(example.parsed)):
            shown = self._shell.type(command)
            assert like(wanted, shown), f"{example.path}:{example.line}\n$ {command}\n{shown}\nbut not\n{wanted}"
            self._shell.places |= dict(zip(_ID.findall(wanted), _ID.findall(shown), strict=False))


class Shell:
    """A real shell, to which the addresses, folders and ids of a page mean those of a test.

    Attributes:
        places: what is on the page, and what it means here.
    """

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.places = {
            f"localhost:{_PORT_OF_THE_PAGES}": f"127.0.0.1:{self._port}",
            f"--port {_PORT_OF_THE_PAGES}": f"--port {self._port}",
            ". .venv/bin/activate": f"PATH={Path(sys.executable).parent}:$PATH",
            _FOLDER_OF_THE_PAGES: str(folder),
        }
        self._process = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "COLUMNS": "140", "NO_COLOR": "1", "no_proxy": "*"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def type(self, command: str) -> str:
        """Type a command, wait for it, and return what it printed; a server in the background is waited for."""
        for there, here in self.places.items():
            command = command.replace(there, here)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\necho; echo ---done\n")
        self._process.stdin.flush()
        lines = []
        while (line := self._process.stdout.readline()) != "---done\n":
            assert line, f"the shell ended at: {command}"
            lines.append(line)
        if "--port" in command and command.endswith("&"):
            self._wait_for_server()
        return "".join(lines).removesuffix("\n")

    def _wait_for_server(self) -> None:
        give_up_at = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < give_up_at:
            try:
                socket.create_connection(("127.0.0.1", self._port)).close()
            except ConnectionRefusedError:
                time.sleep(0.02)
            else:
                return
        raise AssertionError("no server came up")

    def close(self) -> None:
        """End the shell and the servers that it started."""
        self._process.communicate("kill $(jobs -p) 2> /dev/null; wait", timeout=_PATIENCE_SECONDS)


def session(source: str) -> list[tuple[str, str]]:
    """Split a session into commands and what each must print."""
    parts = re.split(r"^\$ (.*)\n", source, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


_ID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}[0-9a-f-]*")
# What differs from run to run: ids, instants, durations, how much of a key is hidden.
_DIFFERS = {
    _ID: "<id>",
    re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ?"): "<instant>",
    re.compile(r"(?i)^date: .*$", re.MULTILINE): "date: <instant>",
    re.compile(r"\b\d+(\.\d+)? (ms|milliseconds|s|min|h|KiB)\b"): "<much>",
    re.compile(r"(?i)^retry-after: \d+", re.MULTILINE): "retry-after: <much>",
    re.compile("…+"): "…",
    # What a shell says about a job that was killed, and no reader needs to see.
    re.compile(r"^.*: line \d+: +\d+ (Killed|Terminated) .*\n", re.MULTILINE): "",
}


def like(wanted: str, shown: str) -> bool:
    """Tell whether a command printed what a page says, as far as that can be the same each time."""
    for pattern, instead in _DIFFERS.items():
        wanted, shown = pattern.sub(instead, wanted), pattern.sub(instead, shown)
    return OutputChecker().check_output(wanted.strip(), shown.strip(), ELLIPSIS | NORMALIZE_WHITESPACE)


def call(app: Any, method: str, url: str, **options: Any) -> httpx.Response:
    """Send one request to an ASGI or a WSGI application of a page."""
    if not asyncio.iscoroutinefunction(getattr(app, "__call__", None)):  # noqa: B004 - an application is what is called
        transport = httpx.WSGITransport(app)
        with httpx.Client(transport=transport, base_url="http://shop.test") as client:
            return client.request(method, url, **options)

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
            return await client.request(method, url, **options)

    return asyncio.run(send())
