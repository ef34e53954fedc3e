"""What a demo run can be told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from retrysafe.errors import ConfigurationError

Act = Literal["lanes", "checkout"]


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """How large and how rough a demo run is.

    Attributes:
        only: one of the two acts: the ``lanes``, or the ``checkout`` of steps; by default both, and the lanes alone
            with a keyless bank.
        orders: how many orders each lane's customers place.
        seed: repeats which answers are lost and how long the bank takes; None chooses one and prints it. Where exactly
            a kill lands is up to this machine.
        lite: plain text and no live display; also chosen by itself when the output is no terminal.
        keyless_bank: the bank ignores keys, and the retrysafe lane says so with mode ``once``.
        mode: the mode that the retrysafe lane declares; by default ``again``, or ``once`` with a keyless bank. Together
            with a keyless bank ``again`` is a wrong declaration, and the demo shows what that costs.
        drop: which part of first answers the client loses, 0 to 1.
        parallel: how many requests each shop's customers have under way at once.
        kills: how often each lane's server is killed before it is let live.
        kill_after_seconds: how long a server lives after each start.
        checkouts: how many orders the second act's customers place.
        checkout_kills: how often the second act's shop is killed, at random moments.
        bank_seconds: how long the bank takes for a charge, on average.
        deadline_seconds: when a lane gives up and what is unanswered counts as stuck.
        command: how this demo was started; the next command is printed in the same words.

    Raises:
        ConfigurationError: every problem is listed with its fix.
    """

    only: Act | None = None
    orders: int = 150
    seed: int | None = None
    lite: bool = False
    keyless_bank: bool = False
    mode: Literal["again", "once"] | None = None
    drop: float = 0.30
    parallel: int = 6
    kills: int = 6
    kill_after_seconds: float = 0.25
    checkouts: int = 60
    checkout_kills: int = 5
    bank_seconds: float = 0.06
    deadline_seconds: float = 45.0
    command: str = "python -m retrysafe.demo"

    def __post_init__(self) -> None:
        """Check everything at once."""
        if problems := list(self._problems()):
            raise ConfigurationError(problems)

    @property
    def declared_mode(self) -> Literal["again", "once"]:
        """What the retrysafe lane declares about ``POST /orders``."""
        return self.mode or ("once" if self.keyless_bank else "again")

    @property
    def acts(self) -> Sequence[Act]:
        """What is played: the steps of the second act need a bank that honours keys."""
        if self.only is not None:
            return [self.only]
        return ["lanes"] if self.keyless_bank else ["lanes", "checkout"]

    def _problems(self) -> Iterator[str]:
        if not 1 <= self.orders <= 100_000:
            yield f"orders is {self.orders}: choose 1 to 100,000"
        if self.only not in {None, "lanes", "checkout"}:
            yield f"only {self.only!r} is unknown: use 'lanes' or 'checkout'"
        if self.only == "checkout" and self.keyless_bank:
            yield "the checkout needs a bank that honours keys: leave keyless_bank out"
        if not 1 <= self.checkouts <= 10_000:
            yield f"checkouts is {self.checkouts}: choose 1 to 10,000"
        if self.mode not in {None, "again", "once"}:
            yield f"mode {self.mode!r} is unknown: use 'again' or 'once'"
        if not 0 <= self.drop <= 1:
            yield f"drop is {self.drop}: choose a part between 0 and 1"
        if self.parallel < 1:
            yield f"parallel is {self.parallel}: at least one request must be under way"
        if self.kills < 0 or self.checkout_kills < 0:
            yield f"kills is {self.kills}, checkout_kills {self.checkout_kills}: choose zero or more"
        if self.kill_after_seconds <= 0 or self.bank_seconds <= 0 or self.deadline_seconds <= 0:
            yield "kill_after_seconds, bank_seconds and deadline_seconds are durations: make them positive"
