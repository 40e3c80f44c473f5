"""What a new run can be made from: profiles that ship, files nearby - other trainers' configurations too - and runs that were."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from engine.data.sources import check_there
from engine.errors import Problem
from engine.importing import Imported, imported, looks_foreign
from engine.importing.reading import SUFFIXES
from engine.ledger import Ledger, runs
from engine.places import shipped
from screens.configure import draft
from screens.configure.draft import Draft

RECENT: Final = 100  # runs that are offered
LOOKED_AT: Final = 200  # YAML and JSON files in a folder

LEFT: Final = "# Not carried over:"


@dataclass(frozen=True)
class Preset:
    """`kind` is shipped, file, import or run; `place` the file's path or the run's uid."""

    kind: str
    name: str
    about: str
    place: str

    @property
    def key(self) -> str:
        """What tells it from all others."""
        return f"{self.kind}:{self.place}"


def presets(ledger: Ledger, folder: Path) -> tuple[Preset, ...]:
    """All presets: those that ship, profiles and other trainers' configurations in `folder`, the newest runs."""
    ships = [Preset("shipped", path.stem, _title(path), str(path)) for path in _tomls(shipped() / "domains")]
    files = [Preset("file", path.name, _title(path), str(path)) for path in _tomls(folder) if _is_profile(path)]
    recent = [
        Preset("run", run.name, f"like this run ({run.state})", run.uid) for run in runs.listed(ledger, limit=RECENT)
    ]
    theirs = [Preset("import", path.name, f"a configuration of {kind}", str(path)) for path, kind in _foreign(folder)]
    return (*ships, *files, *theirs, *recent)


def sought(found: tuple[Preset, ...], words: str) -> tuple[Preset, ...]:
    """Those in which all words occur."""
    wanted = words.lower().split()
    return tuple(
        preset
        for preset in found
        if all(word in f"{preset.kind} {preset.name} {preset.about}".lower() for word in wanted)
    )


def opened(preset: Preset, ledger: Ledger) -> Draft:
    """The preset as a draft.

    Raises:
        Problem: its file cannot be read, or the run is gone.
    """
    if preset.kind == "run":
        return like_run(ledger, preset.place)
    if preset.kind == "import":
        return of_import(imported(Path(preset.place)))
    return draft.from_file(Path(preset.place), own=preset.kind == "file")


def like_run(ledger: Ledger, uid: str) -> Draft:
    """A draft with all values of a run.

    Raises:
        Problem: there is no such run.
    """
    run = runs.find(ledger, uid)
    return draft.from_text(runs.document(ledger, run).profile, run.folder / "profile.toml", run.name)


def of_import(found: Imported) -> Draft:
    """A draft of another trainer's configuration; what did not come along stands in comments on top.

    Raises:
        Problem: it makes no TOML.
    """
    return draft.from_text(found.text, found.path.with_suffix(".toml"), found.path.stem)


def left_behind(made: Draft) -> str:
    """What to say of a draft that was imported: how much of it was not carried over."""
    lines = made.text.splitlines()
    if not lines or not lines[0].startswith("# From "):
        return ""
    head = [line for line in lines if line.startswith("#")]
    start = head.index(LEFT) + 1 if LEFT in head else len(head)
    count = next((place for place, line in enumerate(head[start:]) if not line.startswith("#   ")), len(head) - start)
    words = (
        f"{count} key{'' if count == 1 else 's'} could not be carried over: v shows which"
        if count
        else "all was carried over"
    )
    return f"{lines[0].removeprefix('# ')} {words[0].upper()}{words[1:]}."


def without_data(made: Draft) -> str:
    """The key of the first source of data that is not there, as with a preset whose data each has to bring; empty where all are."""
    try:
        profile = made.profile()
    except Problem:
        return ""
    for place, data in enumerate(profile.data):
        try:
            check_there(data)
        except Problem:
            return f"data.{place}.source"
    return ""


def _foreign(folder: Path) -> list[tuple[Path, str]]:
    """Configurations of other trainers in a folder, and whose they are."""
    if not folder.is_dir():
        return []
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)[:LOOKED_AT]
    told = [(path, _whose(path, _stamp(path))) for path in files]
    return [(path, kind) for path, kind in told if kind]


@lru_cache(maxsize=4 * LOOKED_AT)
def _whose(path: Path, stamp: tuple[int, int]) -> str:
    """Asked once for a file as it stands."""
    return looks_foreign(path)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


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
