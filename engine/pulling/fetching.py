"""What is fetched: a ledger as of one moment, and results of runs, whole and with the fingerprint that the ledger knows, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from engine import folders
from engine.errors import Problem
from engine.ledger import Ledger, runs
from engine.ledger.runs import Run
from engine.places import private_folder
from engine.pulling.far import Box, Progress, below, receive

BESIDES: Final = ("profile.toml", "log.txt")  # small files that tell of the run


@dataclass(frozen=True)
class Fetched:
    """A result that is here now; `new` False where it was already."""

    run: Run
    path: Path
    bytes: int
    new: bool


@contextmanager
def copy_of_ledger(ssh: Sequence[str], box: Box, ledger: Ledger, progress: Progress | None = None) -> Iterator[Path]:
    """The box's ledger in a private file beside ours, which goes afterwards.

    Raises:
        Problem: as `receive`; or there is no ledger.
    """
    with TemporaryDirectory(prefix=".pulling-", dir=ledger.path.parent) as folder:
        yield receive(ssh, box, ["ledger", box.place], Path(folder), progress)[0]


def result(
    ssh: Sequence[str],
    box: Box,
    ledger: Ledger,
    copy: Path,
    name: str,
    *,
    runs_folder: Path,
    progress: Progress | None = None,
) -> Fetched:
    """Fetch the result of the run `name` from the box whose ledger is `copy`, which was merged into `ledger`.

    Raises:
        Problem: there is no such run, it has no result there, or what came is not what its ledger tells of; a result that was here stays.
    """
    run = runs.find(ledger, name)
    with Ledger.open(copy) as theirs:
        there = runs.find(theirs, run.uid)
        expected = runs.document(theirs, there).fingerprints.get("result")
    if there.result_path is None or expected is None:
        raise Problem(
            f"{there.name} has no result on {box.host}",
            f"It is {there.state} there.",
            "Pull when it has one.",
            code="pull",
        )
    folder = run.folder if run.has_own_folder and run.folder.is_dir() else runs_folder / below(run.uid)
    place = folder / below(there.result_path)
    if place.is_dir() and folders.fingerprint(place) == expected:
        return Fetched(_at(ledger, run, folder), place, _size(place), new=False)
    private_folder(folder)
    with TemporaryDirectory(prefix=".pulling-", dir=folder) as temporary:
        arrived = Path(temporary)
        receive(ssh, box, ["files", str(there.folder), *BESIDES, there.result_path], arrived, progress)
        came = arrived / there.result_path
        if not came.is_dir():
            raise Problem(
                f"The result of {there.name} is not on {box.host} any more",
                f"It should be in {there.folder / there.result_path}.",
                "Look there for where it went.",
                code="pull",
            )
        if folders.fingerprint(came) != expected:
            raise Problem(
                f"What came of {there.name} is not the result that its ledger tells of",
                "It was replaced while it was sent, or its files are damaged there.",
                f"Pull again; if that does not help, on {box.host}: workbench ledger check",
                code="pull",
            )
        for small in BESIDES:
            if (arrived / small).is_file() and not (folder / small).exists():
                (arrived / small).rename(folder / small)
        folders.publish(place, lambda target: _move(came, target))
    return Fetched(_at(ledger, run, folder), place, _size(place), new=True)


def _move(source: Path, target: Path) -> None:
    """All but the manifest, which is written anew."""
    for path in source.iterdir():
        if path.name != folders.MANIFEST:
            shutil.move(path, target / path.name)


def _at(ledger: Ledger, run: Run, folder: Path) -> Run:
    """The run with its files in `folder`, where the ledger finds them from now on."""
    if run.folder != folder:
        with ledger.transaction(durable=True) as connection:
            connection.execute("UPDATE run SET folder = ? WHERE id = ?", (str(folder), run.id))
    return runs.find(ledger, run.uid)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
