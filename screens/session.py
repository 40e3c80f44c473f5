"""What every screen works on: one ledger and the folder for new runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.ledger import Ledger


@dataclass(frozen=True)
class Session:
    """`clock` tells the seconds since the epoch; whatever shows an age or an end asks it, so that a picture can be taken at a fixed time."""

    ledger: Ledger
    runs_folder: Path
    clock: Callable[[], float] = time.time
