"""``python -m retrysafe``."""

from __future__ import annotations

from retrysafe.cli.main import main

if __name__ == "__main__":
    main()
