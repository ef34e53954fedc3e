"""What was measured, as one JSON document: each section with the run that it comes from.

A run measures some sections and leaves the others as they were, because growth takes longer than everything else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_SCHEMA_VERSION = 2


def load(path: Path) -> dict[str, Any]:
    """Read what earlier runs found; nothing, where there is no file or one of another form."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        found = {}
    if found.get("schema_version") != _SCHEMA_VERSION:
        return {"schema_version": _SCHEMA_VERSION, "runs": {}, "sections": {}}
    return found


def merged(found: dict[str, Any], run: dict[str, Any], sections: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Put what a run measured in the place of what was there, and drop runs of which nothing is left."""
    name = run["started_at"]
    kept = found["sections"] | {section: {"run": name, "rows": rows} for section, rows in sections.items()}
    used = {section["run"] for section in kept.values()}
    runs = {each: about for each, about in (found["runs"] | {name: run}).items() if each in used}
    return {"schema_version": _SCHEMA_VERSION, "runs": runs, "sections": kept}


def save(found: dict[str, Any], path: Path) -> None:
    """Write it, making the folder if need be; numbers are kept to four digits, which is more than they are worth."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_rounded(found), indent=1, ensure_ascii=False) + "\n")


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return float(f"{value:.4g}")
        case dict():
            return {name: _rounded(each) for name, each in value.items()}
        case list() | tuple():
            return [_rounded(each) for each in value]
        case _:
            return value
