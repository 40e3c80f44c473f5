"""What a new run can be made from: profiles that ship, files nearby, and runs that were."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from engine.ledger import Ledger, runs
from engine.places import shipped
from screens.configure import draft
from screens.configure.draft import Draft

RECENT = 30  # runs that are offered


@dataclass(frozen=True)
class Preset:
    """`kind` is shipped, file or run; `place` the file's path or the run's uid."""

    kind: str
    name: str
    about: str
    place: str

    @property
    def key(self) -> str:
        """What tells it from all others."""
        return f"{self.kind}:{self.place}"


def presets(ledger: Ledger, folder: Path) -> tuple[Preset, ...]:
    """All presets: those that ship, the TOML profiles in `folder`, the newest runs."""
    ships = [Preset("shipped", path.stem, _title(path), str(path)) for path in _tomls(shipped() / "domains")]
    files = [Preset("file", path.name, _title(path), str(path)) for path in _tomls(folder) if _is_profile(path)]
    recent = [
        Preset("run", run.name, f"like this run ({run.state})", run.uid) for run in runs.listed(ledger, limit=RECENT)
    ]
    return (*ships, *files, *recent)


def opened(preset: Preset, ledger: Ledger) -> Draft:
    """The preset as a draft.

    Raises:
        Problem: its file cannot be read, or the run is gone.
    """
    if preset.kind == "run":
        return like_run(ledger, preset.place)
    return draft.from_file(Path(preset.place), own=preset.kind == "file")


def like_run(ledger: Ledger, uid: str) -> Draft:
    """A draft with all values of a run.

    Raises:
        Problem: there is no such run.
    """
    run = runs.find(ledger, uid)
    return draft.from_text(runs.document(ledger, run).profile, run.folder / "profile.toml", run.name)


def _tomls(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.toml")) if folder.is_dir() else []


def _read(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _title(path: Path) -> str:
    return str(_read(path).get("title", ""))


def _is_profile(path: Path) -> bool:
    """Whether a TOML file looks like a profile; pyproject.toml does not."""
    return _read(path).keys() >= {"model", "data"}
