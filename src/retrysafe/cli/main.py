"""Where the process starts: ``retrysafe`` and ``python -m retrysafe``."""

from __future__ import annotations

import sys

_OURS_TO_EXPLAIN = {"click", "rich"}


def main() -> None:
    """Run the command line and exit: 0 is well, 1 is findings or failure, 2 is usage."""
    try:
        from retrysafe.cli.commands import root  # noqa: PLC0415 - without click there is a sentence, not a traceback

        root.main(prog_name="retrysafe")
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] not in _OURS_TO_EXPLAIN:
            raise
        sys.exit(f"error: the command line needs {missing.name}: pip install 'retrysafe[cli]'")
