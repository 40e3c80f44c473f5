"""Where things are kept: the user's home for Workbench and what ships with the program."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def home() -> Path:
    """The folder of the ledger, the settings and (unless set otherwise) the runs: WORKBENCH_HOME or the platform's."""
    chosen = os.environ.get("WORKBENCH_HOME")
    return Path(chosen).expanduser().absolute() if chosen else platformdirs.user_data_path("workbench")


def ledger_path() -> Path:
    """The ledger that is opened when none is named."""
    return home() / "ledger.db"


def settings_path() -> Path:
    """The user's settings: where runs go, theme, key map."""
    return home() / "settings.toml"


def cache() -> Path:
    """What can be made again: copies of hub data, fingerprints of base models, the demonstration's base model."""
    return home() / "cache"


def private_folder(path: Path) -> Path:
    """`path`, made if needed, readable by its owner only (0700)."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def shipped() -> Path:
    """The folder `profiles/` that comes with the program: inside the package in a wheel, beside it in a checkout."""
    here = Path(__file__).resolve().parent
    inside = here / "shipped_profiles"
    return inside if inside.is_dir() else here.parent / "profiles"
