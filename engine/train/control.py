"""Orders: what people want of a run while it trains, looked at between optimizer steps.

Orders that change how the run goes on (rate, evaluate) are part of it: after a resume they are taken again at the steps at which they
were taken first.
"""

from __future__ import annotations

from typing import Final

from engine.ledger import Ledger, orders
from engine.ledger.orders import Order

REPLAYED: Final = frozenset({"rate", "evaluate"})
LARGEST_FACTOR: Final = 100.0


class Control:
    """The orders of one run, in the order in which they take effect."""

    def __init__(self, ledger: Ledger, run: int, *, after: int) -> None:
        """`after` is the id of the last order whose effect the run already carries."""
        self._ledger = ledger
        self._run = run
        self._replay = [
            order
            for order in orders.taken(ledger, run)
            if order.id > after and order.verb in REPLAYED and _valid(order)
        ]

    def due(self, step: int) -> list[Order]:
        """Orders that take effect after optimizer step `step`: those taken here before, then new ones, now acknowledged."""
        again = [order for order in self._replay if order.step is not None and order.step <= step]
        self._replay = self._replay[len(again) :]
        return [*again, *self._take(step)]

    def waiting(self) -> list[Order]:
        """Orders that nobody has taken yet."""
        return orders.waiting(self._ledger, self._run)

    def _take(self, step: int) -> list[Order]:
        taken = []
        for order in self.waiting():
            if order.verb in REPLAYED and self._replay:
                continue  # it comes after all that were taken before
            if _valid(order):
                orders.acknowledge(self._ledger, order, step=step, answer="taken")
                taken.append(order)
            else:
                answer = f"a factor above 0 and up to {LARGEST_FACTOR:g} is needed"
                orders.acknowledge(self._ledger, order, step=None, answer=answer)
        return taken


def _valid(order: Order) -> bool:
    return order.verb != "rate" or (order.value is not None and 0 < order.value <= LARGEST_FACTOR)
