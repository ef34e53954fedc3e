"""What pages say about the code, made from the code: ``python -m tests.docs.generated`` writes it, a test compares it.

In a page it stands between ``<!-- made from the code: NAME -->`` and ``<!-- end -->``.
"""

import ast
import inspect
import logging
import re
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from datetime import timedelta
from functools import partial

import click

from bench import page, plots
from retrysafe.cli.commands import root
from retrysafe.http import codes, replay
from retrysafe.http.key import KeyRules
from retrysafe.http.request import NEVER_STORED
from retrysafe.protocol.fingerprint import FingerprintRules
from retrysafe.protocol.policy import NOTHING_DONE, Policy
from retrysafe.protocol.states import FINAL, LEASED, TRANSITIONS, State
from retrysafe.runtime import events
from retrysafe.runtime.guard import RetrySafe
from retrysafe.stores.nats import NatsStore
from retrysafe.stores.rows import one_of
from retrysafe.stores.sqlite import SQLiteStore
from tests.docs import diagram
from tests.docs.examples import PAGES, ROOT

_BLOCK = re.compile(r"(<!-- made from the code: ([\w ]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_RULE = re.compile(r"\b[KFCSDR]\d{1,2}\b")
_RULES = set(re.findall(r"{ #([a-z]\d+) }", PAGES["docs/explanation/protocol.md"].read_text()))
PACKAGE = ROOT / "src" / "retrysafe"
_UNITS = {"d": 86400, "h": 3600, "min": 60, "s": 1}
_FEWEST = {"d": 2, "h": 2, "min": 2, "s": 0}
"""24 h reads better than 1 d."""


def made(name: str) -> str:
    """Return the block of that name."""
    return f"\n{BLOCKS[name]().strip()}\n\n"


def filled(page: str) -> str:
    """Return the text of a page with every block as the code has it now."""
    return _BLOCK.sub(lambda match: match[1] + made(match[2]) + match[4], page)


def names_of_blocks(page: str) -> list[str]:
    """Return which blocks a page has."""
    return [name for _, name, _, _ in _BLOCK.findall(page)]


# What the code says about itself.


def _documented(kind: type) -> dict[str, str]:
    """Return the text below each member of a class, or in the ``Attributes:`` of its docstring."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(tree, ast.ClassDef)
    found = _section(kind.__doc__ or "", "Attributes")
    for member, text in zip(tree.body, tree.body[1:], strict=False):
        match member, text:
            case (
                (ast.AnnAssign(target=ast.Name(name)) | ast.Assign(targets=[ast.Name(name)])),
                ast.Expr(ast.Constant(str(words))),
            ):
                found[name] = inspect.cleandoc(words)
            case _:
                pass
    return found


def _section(docstring: str, title: str) -> dict[str, str]:
    """Read one section of a docstring: a name, a colon, and text that may go on below."""
    section = re.search(rf"^{title}:\n(.*?)(?=^\S|\Z)", inspect.cleandoc(docstring), re.MULTILINE | re.DOTALL)
    entries = re.findall(r"^    (\w+): (.*?)(?=^    \w|\Z)", section[1] if section else "", re.MULTILINE | re.DOTALL)
    return {name: textwrap.dedent(words) for name, words in entries}


def _value(value: object) -> str:
    """Write a default as people say it."""
    match value:
        case timedelta():
            seconds = value.total_seconds()
            fits = (unit for unit, size in _UNITS.items() if seconds % size == 0 and seconds >= _FEWEST[unit] * size)
            unit = next(fits)
            return f"{seconds / _UNITS[unit]:g} {unit}"
        case bool() | None:
            return f"`{value}`"
        case int() if value and value % (1024 * 1024) == 0:
            return f"{value // (1024 * 1024)} MiB"
        case frozenset():
            return _value(tuple(sorted(value)))
        case tuple():
            return ", ".join(f"`{item}`" for item in value) or "none"
        case str():
            return f"`{value}`"
        case _ if is_dataclass(value):
            return f"`{type(value).__name__}()`"
        case _:
            return str(value)


# Writing tables.


def _cell(text: str) -> str:
    """Write reStructuredText of a docstring as one line of a Markdown table, with links to the rules."""
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", " ".join(text.split()))
    text = text.replace("``", "`").replace("|", "\\|")
    return _RULE.sub(lambda rule: _rule(rule[0]), text)


def _rule(name: str) -> str:
    """Link a rule to the protocol, if this release keeps it."""
    return f"[{name}](../explanation/protocol.md#{name.lower()})" if name.lower() in _RULES else name


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _settings(names_and_defaults: Iterable[tuple[str, object]], texts: dict[str, str]) -> str:
    rows = [(f"`{name}`", _value(default), _cell(texts[name])) for name, default in names_and_defaults]
    return _table(("Name", "Default", "What it means"), rows)


# The blocks.


def policy() -> str:
    """Write every field of ``Policy``."""
    return _settings(_defaults(Policy), _documented(Policy))


def key_rules() -> str:
    """Write every field of ``KeyRules``."""
    return _settings(_defaults(KeyRules), _documented(KeyRules))


def fingerprint_rules() -> str:
    """Write every field of ``FingerprintRules``."""
    return _settings(_defaults(FingerprintRules), _documented(FingerprintRules))


def _defaults(kind: type) -> list[tuple[str, object]]:
    return [
        (field.name, field.default if field.default_factory is MISSING else field.default_factory())
        for field in fields(kind)
        if field.init
    ]


def guard() -> str:
    """Write every argument of ``RetrySafe``."""
    parameters = list(inspect.signature(RetrySafe).parameters.values())
    texts = _section(RetrySafe.__init__.__doc__ or "", "Args")
    rows = [(f"`{each.name}`", _argument(each), _cell(texts[each.name])) for each in parameters]
    return _table(("Name", "Default", "What it means"), rows)


_IN_WORDS = {
    "store": "must be given",
    "principal": "must be given",
    "policy": "`Policy()`",
    "keys": "`KeyRules()`",
    "profile": "`IETF`",
    "sinks": "`[LoggingSink()]`",
}
"""Arguments whose default the signature does not show as people write it."""


def _argument(parameter: inspect.Parameter) -> str:
    if parameter.name in _IN_WORDS:
        return _IN_WORDS[parameter.name]
    return "none" if parameter.default is None else _value(parameter.default)


def sqlite_options() -> str:
    """Write the options of a ``sqlite://`` URL."""
    texts = _section(SQLiteStore.__doc__ or "", "Args")
    parameters = inspect.signature(SQLiteStore).parameters
    rows = [
        (f"`{name}`", _value(parameters[name].default).lower(), _cell(texts[name]))
        for name in ("synchronous", "busy_timeout", "migrate")
    ]
    return _table(("Option", "Default", "What it means"), rows)


def nats_options() -> str:
    """Write the options of a ``nats://`` URL."""
    texts = _section(NatsStore.__doc__ or "", "Args")
    parameters = inspect.signature(NatsStore).parameters
    rows = [
        (f"`{name}`", _value(parameters[name].default).lower(), _cell(texts[name]))
        for name in ("replicas", "synced", "timeout")
    ]
    return _table(("Option", "Default", "What it means"), rows)


def problems() -> str:
    """Write every problem that a client can be answered."""
    rows = [
        (
            f"`{code.code}`",
            f"[{code.number}](#{code.number.lower()})",
            str(code.status),
            "yes" if code.retryable else "no",
            {None: "–", True: "yes", False: "no"}[code.new_key_safe],
        )
        for code in codes.ALL
        if code is not codes.CONFIGURATION
    ]
    return _table(("`code`", "Number", "Status", "`retryable`", "`new_key_safe`"), rows)


def explanations() -> str:
    """Write what each code means, why it comes, and what to do."""
    return "\n\n".join(
        f"### {code.number} {code.code} {{ #{code.number.lower()} }}\n\n"
        f"{code.what}\n\n**Why:** {code.why}\n\n**Fix:** {code.fix}"
        for code in codes.ALL
    )


def dropped_headers() -> str:
    """Write the response headers that are not recorded."""
    names = [f"`{name.decode()}`" for name in sorted(replay.DROPPED)]
    families = [f"`{name.decode()}…`" for name in sorted(replay.DROPPED_FAMILIES)]
    return f"{', '.join(names)}, and all whose names begin with {', '.join(families)}."


def never_stored() -> str:
    """Write the request headers that are never stored for a re-run."""
    return ", ".join(f"`{name.decode()}`" for name in sorted(NEVER_STORED)) + "."


def nothing_done() -> str:
    """Write the statuses that say that nothing was done."""
    return ", ".join(str(status) for status in sorted(NOTHING_DONE)) + "."


def event_table() -> str:
    """Write every event, its level and its fields."""
    kinds = [
        kind
        for kind in vars(events).values()
        if inspect.isclass(kind)
        and issubclass(kind, events.Event)
        and kind not in {events.Event, events.OperationEvent}
    ]
    rows = [
        (
            f"`{kind.__name__}`",
            logging.getLevelName(kind.level).lower(),
            _cell(inspect.cleandoc(kind.__doc__ or "").partition("\n\nAttributes:")[0]),
            ", ".join(f"`{name}`" for name in inspect.signature(kind).parameters),
        )
        for kind in kinds
    ]
    return _table(("Event", "Level", "What happened", "Fields"), rows)


def legend() -> str:
    """Write what each state means."""
    texts = _documented(State)

    def kind(state: State) -> str:
        return "final" if state in FINAL else "a lease runs" if state in LEASED else "open"

    rows = [(f"`{state}`", kind(state), _cell(texts[state.name])) for state in State]
    return _table(("State", "Kind", "What it says"), rows)


def transitions() -> str:
    """Write where each state may lead."""
    rows = [
        (f"`{state}`", ", ".join(f"`{target}`" for target in State if target in TRANSITIONS[state]) or "nowhere")
        for state in State
    ]
    return _table(("From", "To"), rows)


def sql_check() -> str:
    """Write the condition under which a database accepts a state."""
    condition = one_of(State).strip("()").replace(" OR ", "\n    OR ")
    return f"```sql\nCHECK (\n    {condition}\n)\n```"


def commands() -> str:
    """Write every command with its arguments and options."""
    context = click.Context(root, info_name="retrysafe")
    return "\n\n".join(_command(command, context, name) for name, command in sorted(root.commands.items()))


def _command(command: click.Command, parent: click.Context, name: str) -> str:
    context = click.Context(command, parent=parent, info_name=name)
    if isinstance(command, click.Group):
        return "\n\n".join(_command(below, context, name) for name, below in sorted(command.commands.items()))
    usage = " ".join(command.collect_usage_pieces(context))
    text = inspect.cleandoc(command.help or "")
    rows = [
        (_cell(f"`{record[0]}`"), _cell(record[1]))
        for parameter in command.params
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context)) is not None
    ]
    options = _table(("Option", "What it does"), rows)
    return f"## {context.command_path}\n\n```text\n{context.command_path} {usage}\n```\n\n{text}\n\n{options}"


def layers() -> str:
    """Write who stands above whom, as the import linter enforces it; what is in brackets there may not exist yet."""
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    [contract] = [contract for contract in linter["contracts"] if contract["type"] == "layers"]
    lines = [[name.strip("()") for name in layer.split(" | ")] for layer in contract["layers"]]
    packages = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")}
    there = [[name for name in line if name in packages] for line in lines]
    return "```text\n" + "\n".join(" | ".join(line) for line in there if line) + "\n```"


def room(name: str) -> str:
    """Write what each module of a package says that it is for."""
    modules = sorted((PACKAGE / name).rglob("*.py")) or [PACKAGE / f"{name}.py"]
    rows = [
        (f"[{path.relative_to(PACKAGE)}]({path.relative_to(ROOT)})", " ".join(first.split()).replace("``", "`"))
        for path in modules
        if (first := (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n\n")[0])
    ]
    return _table(("File", "What it is for"), rows)


ROOMS = ("errors", "protocol", "http", "stores", "runtime", "adapters", "testing", "cli", "demo")
BLOCKS: dict[str, Callable[[], str]] = {
    block.__name__: block
    for block in (
        policy,
        key_rules,
        fingerprint_rules,
        guard,
        sqlite_options,
        nats_options,
        problems,
        explanations,
        dropped_headers,
        never_stored,
        nothing_done,
        event_table,
        legend,
        transitions,
        sql_check,
        commands,
        layers,
    )
}
BLOCKS |= {f"room {name}": partial(room, name) for name in ROOMS}
BLOCKS |= page.blocks()

if __name__ == "__main__":
    for path in PAGES.values():
        path.write_text(filled(path.read_text()))
    (ROOT / "docs" / "images" / "states.svg").write_text(diagram.states())
    plots.draw(page.published(), page.FOLDER)
    sys.exit()
