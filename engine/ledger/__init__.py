"""The ledger: one SQLite file that engine and screens meet in.

`Ledger.open(path)` gives the store; the modules beside it are its typed API, a topic each: `runs`, `table`, `labels`,
`facts`, `jobs`, `metrics`, `summaries`, `events`, `orders`, `checkpoints`, `evaluations`. They return frozen dataclasses, never cursors.
"""

from engine.ledger.store import Ledger

__all__ = ["Ledger"]
