"""Profiles: the protocol in the words of another specification. A profile is a table, and the table is the test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from retrysafe.errors import ConfigurationError
from retrysafe.http.codes import Code


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How a specification words our answers.

    Attributes:
        name: how it is chosen.
        source: where the specification stands.
        date: of the text that this table was made from, ISO 8601.
        remap: our code to the status and the code that the specification asks for.
    """

    name: str
    source: str
    date: str
    remap: Mapping[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]], hash=False)

    def words(self, code: Code) -> tuple[int, str]:
        """Return the status and the code for one of our codes."""
        return self.remap.get(code.code, (code.status, code.code))


IETF = Profile(
    name="ietf",
    source="https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/07/",
    date="2025-10-15",
)
"""The draft asks for 400, 409 and 422 as our table has them and leaves the rest to the service."""

PROFILES: Mapping[str, Profile] = MappingProxyType({table.name: table for table in (IETF,)})


def profile(name: str) -> Profile:
    """Return a profile by its name.

    Raises:
        ConfigurationError: there is none of that name.
    """
    if found := PROFILES.get(name.lower()):
        return found
    raise ConfigurationError([f"profile {name!r} is unknown: use one of {', '.join(sorted(PROFILES))}"])
