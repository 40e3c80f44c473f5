"""What runs of other programs there are at a path: a file, a run's folder, or a folder full of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

from engine.errors import Problem, closest
from engine.ledger import opening, schema
from engine.ledger.exchange import foreign, frames, plain, tensorboard, trackio, trainer, wandb
from engine.ledger.exchange.imported import Kind, Reader
from engine.ledger.refusals import in_words

KINDS: Final[Sequence[str]] = get_args(Kind)
TABLES: Final[Mapping[str, Kind]] = {kind: kind for kind in frames.SUFFIXES.values()}
SQLITE: Final = b"SQLite format 3\0"


@dataclass(frozen=True)
class Found:
    """Readers of the runs at a path, all of one kind, and what else is there that tells perhaps of the same runs."""

    readers: tuple[Reader, ...]
    also: tuple[Kind, ...] = ()


def find(path: Path, kind: str | None = None) -> Found:
    """The runs at `path`; where several kinds of files lie there, of `kind`, or of the one that tells most.

    Raises:
        Problem: there is none, or no such path or kind.
    """
    if kind is not None and kind not in KINDS:
        raise Problem(f"There is no kind {kind}{closest(kind, KINDS)}", f"Known are {', '.join(KINDS)}.", code="import")
    if not path.exists():
        raise Problem(f"There is no {path}", do="Name a file or a folder that is there.", code="import")
    there = {each: readers for each, search in SEARCHES.items() if kind in (None, each) and (readers := search(path))}
    table = TABLES.get(kind or "", frames.SUFFIXES.get(path.suffix.lower()) if kind is None else None)
    if table and path.is_file():
        there[table] = list(plain.readers(path, table))
    if not there:
        raise Problem(
            f"No {kind or 'known'} runs were found at {path}",
            "Known are TensorBoard event files, wandb's offline folders, trackio's projects, a Trainer's output folder, and"
            " CSV, JSON lines or Parquet with a column of steps.",
            "" if kind else "Name the file itself, or say what it is: --as KIND",
            code="import",
        )
    first, *rest = there
    return Found(tuple(there[first]), tuple(rest))


def is_ledger(path: Path) -> bool:
    """Whether the file is a ledger of Workbench's.

    Raises:
        Problem: it may not be read, or is damaged.
    """
    if not _is_sqlite(path):
        return False
    with in_words(path):
        connection, _ = opening.reader(path.absolute())
        try:
            return bool(connection.execute("PRAGMA application_id").fetchone()[0] == schema.APPLICATION_ID)
        finally:
            connection.close()


def _wandb(path: Path) -> list[Reader]:
    if path.is_file():
        return [wandb.OfflineRun(path)] if path.suffix == ".wandb" else []
    runs: dict[str, list[Path]] = {}
    for file in sorted(_each(path, "*.wandb"), key=lambda file: file.parent.name):  # folders are named by their time
        runs.setdefault(file.name, []).append(file)
    return [wandb.OfflineRun(*files) for files in runs.values()]


def _trackio(path: Path) -> list[Reader]:
    files = [path] if path.is_file() else _each(path, "*.db")
    return [
        reader for file in files if _is_sqlite(file) and trackio.is_project(file) for reader in trackio.readers(file)
    ]


def _tensorboard(path: Path) -> list[Reader]:
    if path.is_file():
        return [tensorboard.EventFolder(path.parent, path.absolute().parent.name)] if "tfevents." in path.name else []
    root = path.absolute()
    return [tensorboard.EventFolder(folder, _called(folder, root)) for folder in tensorboard.folders(root)]


def _called(folder: Path, root: Path) -> str:
    """As TensorBoard calls it, by its path below `root`; what a Trainer put in OUTPUT/runs/DATE_HOST is called OUTPUT."""
    output = folder.parent.parent
    if folder.parent.name == "runs" and trainer.files(output):
        folder = output
    return str(folder.relative_to(root)) if folder != root and folder.is_relative_to(root) else folder.name


def _trainer(path: Path) -> list[Reader]:
    if path.is_file():
        return [trainer.OutputFolder(path)] if path.suffix == ".json" and _is_state(path) else []
    folders = {file.parent for file in path.rglob(trainer.FILE)}
    outputs = {
        folder.parent if folder.name.startswith("checkpoint-") and folder != path else folder for folder in folders
    }
    return [trainer.OutputFolder(folder) for folder in sorted(outputs)]


SEARCHES: Final[dict[Kind, Callable[[Path], list[Reader]]]] = {
    "wandb": _wandb,
    "trackio": _trackio,
    "tensorboard": _tensorboard,
    "trainer": _trainer,
}
"""By how much they tell of a run, the most first."""


def _each(folder: Path, pattern: str) -> list[Path]:
    return sorted(file for file in folder.rglob(pattern) if file.is_file())


def _is_sqlite(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(SQLITE)) == SQLITE
    except OSError as error:
        raise Problem(f"{path} cannot be read", f"{error.strerror}.", code="import") from error


def _is_state(path: Path) -> bool:
    """Whether a JSON file is a Trainer's state; one of its name is, though it is half written."""
    try:
        return path.name == trainer.FILE or trainer.is_state(foreign.parsed(path.read_bytes()))
    except ValueError:
        return False
