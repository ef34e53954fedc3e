"""Django without a project: databases that come and go with the tests."""

from __future__ import annotations

from itertools import count
from typing import Any
from urllib.parse import urlsplit

import django
import pymysql
from django.conf import settings
from django.db import connections

_numbers = count()


def register(url: str, **changes: Any) -> str:
    """Make a database known, and return its alias."""
    if not settings.configured:
        settings.configure(DATABASES={}, INSTALLED_APPS=[], USE_TZ=True, SECRET_KEY="tests")
        django.setup()
    alias = f"tests{next(_numbers)}"
    if url.startswith("sqlite"):
        described: dict[str, Any] = {"ENGINE": "django.db.backends.sqlite3", "NAME": url.removeprefix("sqlite:///")}
    else:
        parts = urlsplit(url)
        if parts.scheme == "mariadb":
            # What Django asks for by the name of the C library's driver.
            pymysql.install_as_MySQLdb()
        described = {
            "ENGINE": f"django.db.backends.{'mysql' if parts.scheme == 'mariadb' else 'postgresql'}",
            "NAME": parts.path[1:],
            "USER": parts.username,
            "HOST": parts.hostname,
            "PORT": str(parts.port),
        }
    databases: Any = connections
    all_of_them = databases.configure_settings({"default": {}, alias: {**described, **changes}})
    databases.settings[alias] = all_of_them[alias]
    return alias


def forget(alias: str) -> None:
    databases: Any = connections
    databases[alias].close()
    del databases[alias]
    del databases.settings[alias]
