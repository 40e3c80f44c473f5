"""What can be completed while a value is typed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from engine.data.sources import SUFFIXES
from engine.evaluate.suites import known_suites
from engine.fit.shapes import shipped_models
from engine.ledger import Ledger, runs

MOST: Final = 200  # names of a kind


def suggestions(key: str, ledger: Ledger, folder: Path) -> tuple[str, ...]:
    """Values that make sense for a dotted key: models and runs, data files in `folder`, suites."""
    if key == "model.base":
        models = [name for model in shipped_models() for name in model.ids]
        return (*models, *(f"run:{run.name}" for run in runs.listed(ledger) if run.result_path))[:MOST]
    if key.startswith("data.") and key.endswith(".source"):
        return tuple(sorted(path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES))[:MOST]
    if key == "evaluation.suites":
        return ("test", *known_suites(None))
    return ()
