"""Migrations as files: numbered SQL, each applied once and never changed afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files

from retrysafe.errors import ConfigurationError, SchemaMismatch

# The line of a migration behind which it takes away what only the code before it needs.
_CONTRACTS = "-- post\n"


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema.

    Attributes:
        number: counted from 1.
        name: its file's name without ``.sql``.
        text: its statements.
        digest: SHA-256 of the text, in hexadecimal; recorded when it is applied.
    """

    number: int
    name: str
    text: str
    digest: str

    @property
    def pre(self) -> str:
        """Its statements that the code before it can live with, so that both may run: what is only added."""
        return self.text.partition(_CONTRACTS)[0]

    @property
    def post(self) -> str:
        """Its statements for when no process of the code before it is left: what is taken away."""
        return self.text.partition(_CONTRACTS)[2]

    @property
    def note(self) -> str:
        """The statement that notes it as applied; its texts are ours and hold no quotes."""
        return f"INSERT INTO retrysafe_migration VALUES ({self.number}, '{self.name}', '{self.digest}')"  # noqa: S608


@cache
def migrations_of(package: str) -> tuple[Migration, ...]:
    """Return every migration that a package has, in order."""
    folder = files(package).joinpath("migrations")
    found = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    texts = [(entry.name.removesuffix(".sql"), entry.read_text("utf-8")) for entry in found]
    return tuple(
        Migration(int(name.partition("_")[0]), name, text, sha256(text.encode()).hexdigest()) for name, text in texts
    )


def lacking(known: Sequence[Migration], applied: Mapping[int, str]) -> tuple[Migration, ...]:
    """Compare what was applied with what this code knows.

    Args:
        known: this code's migrations.
        applied: digests by number.

    Raises:
        SchemaMismatch: the schema is newer than this code.
        ConfigurationError: a migration was changed after it had been applied.
    """
    found, needed = max(applied, default=0), known[-1].number
    if found > needed:
        raise SchemaMismatch(found, needed)
    changed = [step.name for step in known if applied.get(step.number, step.digest) != step.digest]
    if changed:
        raise ConfigurationError(
            [
                f"migration {name} is not the one that was applied to this store: "
                "install the release that made the store, or restore its data"
                for name in changed
            ]
        )
    return tuple(step for step in known if step.number not in applied)
