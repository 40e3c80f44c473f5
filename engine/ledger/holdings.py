"""What the ledger says of files, held against the disk: runs' folders, checkpoints, results and exports, and folders that nobody knows.

Nothing here removes a file that a person may want: folders of unknown runs may belong to another ledger that shares the runs folder.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from engine import folders, machine
from engine.ledger import artifacts, checkpoints, jobs, runs
from engine.ledger.checking import Finding, Progress
from engine.ledger.runs import UID, Run
from engine.ledger.store import Ledger

BIN: Final = ".bin"
"""The folder within a runs folder where the files of deleted runs lie."""
STALE: Final = 86400.0  # seconds after which nobody fills a temporary file any more
TEMPORARY: Final = (".*.new", ".merging-*", ".importing-*", ".exporting-*", ".pulling-*", ".copying-*")


def check(ledger: Ledger, runs_folder: Path, *, fix: bool, contents: bool, progress: Progress) -> Iterator[Finding]:
    """Look for the files of all runs that this machine has trained, and in the runs folders for others.

    With `contents` every byte of checkpoints and artifacts is read and held against its hash. Runs that are at work are left alone.
    """
    everything = [*runs.listed(ledger), *runs.binned(ledger)]
    at_work = {job.run for job in jobs.live(ledger) if jobs.may_be_at_work(job)}
    here = [run for run in everything if run.deleted is None and run.id not in at_work and _is_ours(ledger, run)]
    for done, run in enumerate(here, 1):
        if run.folder.is_dir():
            yield from _checkpoints(ledger, run, fix=fix, contents=contents)
            yield from _artifacts(ledger, run, contents=contents)
            yield from _leftovers(run.folder, fix)
        elif run.step or run.result_path:
            do = f"Mount the disk that it was on, or delete the run: workbench runs delete {run.name}"
            yield Finding("folder", f"{run.name}: its folder {run.folder} is not there", do, run.uid)
        progress(done, len(here), "runs' files")
    places = {runs_folder, *(run.folder.parent for run in everything if run.folder.name == run.uid)}
    yield from _orphans({run.uid for run in everything}, sorted(places))
    yield from _leftovers(ledger.path.parent, fix)


def _is_ours(ledger: Ledger, run: Run) -> bool:
    """Whether the run's files should be here: it was trained here, or they have been fetched. An imported run has none."""
    if run.folder.is_dir():
        return True
    job = jobs.newest_training(ledger, run.id)
    return not run.source and job is not None and job.host == machine.here().host


def _checkpoints(ledger: Ledger, run: Run, *, fix: bool, contents: bool) -> Iterator[Finding]:
    for each in checkpoints.of_run(ledger, run.id):
        folder = run.folder / each.path
        name = f"{run.name}: the checkpoint of step {each.step}"
        if not folder.is_dir():
            if fix:
                checkpoints.remove(ledger, run.id, step=each.step)
            yield Finding(
                "checkpoint",
                f"{name} is not at {folder}",
                "Forget it: workbench ledger check --fix",
                run.uid,
                mended=fix,
            )
        elif contents and (damage := folders.damage(folder)):
            do = f"Resuming takes the one before it. Remove it: rm -r {folder}"
            yield Finding("checkpoint", f"{name} is damaged: {damage}", do, run.uid)


def _artifacts(ledger: Ledger, run: Run, *, contents: bool) -> Iterator[Finding]:
    """The results and exports that are recorded, and the result that the run is known by."""
    known: dict[str, tuple[str, str]] = {
        each.path: (each.kind, each.fingerprint) for each in artifacts.of_run(ledger, run.id)
    }
    if run.result_path and run.result_path not in known:
        known[run.result_path] = ("result", runs.document(ledger, run).fingerprints.get("result", ""))
    for path, (kind, fingerprint) in known.items():
        folder = run.folder / path
        what = "artifact" if kind == "export" else "result"
        if not folder.is_dir():
            do = "Make it again, or bring it back from a copy of the disk."
            if what == "artifact":
                do = f"Make it again: workbench export {run.name} --format merged"
            yield Finding(what, f"{run.name}: its {kind} is not at {folder}", do, run.uid)
        elif contents and fingerprint and folders.fingerprint(folder) != fingerprint:
            why = folders.damage(folder) or "its files were replaced"
            do = "Do not use it. Resume or train the run anew, or bring it back from a copy of the disk."
            yield Finding(what, f"{run.name}: the {kind} in {folder} is not what was written: {why}", do, run.uid)


def _orphans(known: Collection[str], places: Collection[Path]) -> Iterator[Finding]:
    """Folders of runs that the ledger does not have, also in the bin."""
    for place in places:
        for parent in (place, place / BIN):
            for folder in sorted(parent.iterdir()) if parent.is_dir() else ():
                if UID.fullmatch(folder.name) and folder.name not in known and folder.is_dir():
                    size = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
                    do = f"If no other ledger has it (workbench ledger merge FILE brings it in): rm -r {folder}"
                    yield Finding("orphan", f"{folder} ({size / 1e6:,.1f} MB) is no run of this ledger", do)


def _leftovers(folder: Path, fix: bool) -> Iterator[Finding]:
    """Temporary files that processes which died left in a folder."""
    for pattern in TEMPORARY:
        for path in sorted(folder.glob(pattern)):
            if time.time() - path.stat().st_mtime < STALE:
                continue
            if fix:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            yield Finding(
                "leftover", f"{path} was left half-made", "Remove it: workbench ledger check --fix", mended=fix
            )
