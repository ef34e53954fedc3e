"""What is ordered in the second act, and by whom: all from the seed."""

from __future__ import annotations

import msgspec

from retrysafe.demo.client import Customer
from retrysafe.demo.web import encode
from retrysafe.demo.wire import Answer

CHECKOUT_PATH = "/checkout"
HURRIED_PATH = "/checkout/hurried"
"""The same checkout with two attempts only: what can't be had by then is undone."""

_DEAREST_CENTS, _CHEAPEST_CENTS, _MOST_PIECES = 50_000, 500, 5
_HURRIED_EVERY = 10


class Basket(msgspec.Struct, frozen=True):
    """What a customer sends.

    Attributes:
        order: its number.
        cents: what it costs.
        pieces: how many the warehouse must give.
    """

    order: str
    cents: int
    pieces: int


class Buyer(Customer):
    """A customer with a basket; every tenth is in a hurry, and meets a bank that is no help (see ``moods.py``)."""

    def __init__(self, number: int, seed: int, drop: float) -> None:
        """Decide everything; see :class:`Customer`."""
        super().__init__(number, seed, drop)
        cents, pieces = self.luck.randrange(_CHEAPEST_CENTS, _DEAREST_CENTS), self.luck.randint(1, _MOST_PIECES)
        self.order = f"{'hurry' if number % _HURRIED_EVERY == 0 else 'order'}-{number:04}"
        self.path = HURRIED_PATH if is_hurried(self.order) else CHECKOUT_PATH
        self.basket = Basket(self.order, cents, pieces)
        self.body = encode(self.basket)

    def drops(self, answer: Answer) -> bool:
        """Tell whether this answer is lost: the first final one, whether it is a receipt or a refusal."""
        lost = self.loses_first_answer and "retry-after" not in answer.headers and answer.status < 500
        self.loses_first_answer = self.loses_first_answer and not lost
        return lost


def is_hurried(order: str) -> bool:
    """Tell whether an order's customer is in a hurry."""
    return order.startswith("hurry")
