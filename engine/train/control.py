"""Orders and signals: what people want of a run while it trains, looked at between optimizer steps.

Orders that change how the run goes on (rate, evaluate) are part of it: after a resume they are taken again at the steps at which they
were taken first.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
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
        self._signals = 0
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

    def _take(self, step: int) -> list[Order]:
        taken = []
        for order in orders.waiting(self._ledger, self._run):
            if order.verb in REPLAYED and self._replay:
                continue  # it comes after all that were taken before
            if _valid(order):
                orders.acknowledge(self._ledger, order, step=step, answer="taken")
                taken.append(order)
            else:
                answer = f"a factor above 0 and up to {LARGEST_FACTOR:g} is needed"
                orders.acknowledge(self._ledger, order, step=None, answer=answer)
        return taken

    @property
    def interrupted(self) -> bool:
        """Whether SIGTERM or SIGINT asked for the end."""
        return self._signals > 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM and SIGINT: the first asks for a stop after a checkpoint, the second stops at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        stood = {number: signal.signal(number, self._signalled) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in stood.items():
                signal.signal(number, handler)

    def _signalled(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 1:
            raise KeyboardInterrupt("Stopped at once. Resuming goes on from the last checkpoint.")


def _valid(order: Order) -> bool:
    return order.verb != "rate" or (order.value is not None and 0 < order.value <= LARGEST_FACTOR)
