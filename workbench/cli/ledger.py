"""`workbench ledger`: the file itself - merged with others, copied, kept for years, checked, restored."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TypeAlias

from engine.errors import Problem
from engine.ledger import Ledger, beside_runs, checking, copies, holdings, merging
from engine.ledger.merging import Merged
from engine.storage import storage_of
from screens.widgets import figures
from workbench import settings
from workbench.cli.existing import existing_ledger
from workbench.cli.output import print_json, printable, progress, shown, words

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add(commands: Commands) -> None:
    """Add `ledger` and its own commands to the command line."""
    parser = commands.add_parser(
        "ledger",
        help="merge, back up, archive, check, restore the ledger",
        description="The ledger's file. Without a command: where it is and what is in it.",
        epilog="Exit codes: 0 done; 1 check found something, or merging met runs that went on in two places; 2 could not run.",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=show)
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND")

    merge = _verb(verbs, "merge", "bring in the runs of other ledgers, each once, however often", merge_files)
    merge.add_argument("files", nargs="+", type=Path, metavar="FILE", help="another ledger; it is only read")
    for name, does, run in (
        ("backup", "copy the ledger while it may be written to", backup),
        ("archive", "copy it for keeping: compact, one file, opens on read-only media", archive),
    ):
        copy = _verb(verbs, name, does, run)
        copy.add_argument("to", metavar="FILE", help="the copy; - writes it to standard output")
        copy.add_argument("--force", action="store_true", help="replace the file if it is there")
    check = _verb(verbs, "check", "is the ledger whole, and are the files there that it tells of", check_all)
    check.add_argument("--fix", action="store_true", help="mend what can be mended without losing anything")
    check.add_argument("--quick", action="store_true", help="do not read checkpoints and results to hash them")
    _verb(verbs, "restore", "bring back what the copies beside the runs hold", restore)


def _verb(verbs: Commands, name: str, does: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="as JSON")
    parser.set_defaults(run=run)
    return parser


def show(options: argparse.Namespace) -> int:
    """Where the ledger is and what is in it."""
    ledger = existing_ledger(options.ledger)
    runs_folder = settings.load().runs_folder
    count, points = ledger.rows("SELECT (SELECT count(*) FROM run), (SELECT coalesce(sum(n), 0) FROM series)")[0]
    disk, size = storage_of(ledger.path), ledger.path.stat().st_size
    why = beside_runs.wanted(ledger.path, runs_folder)
    found = beside_runs.found(runs_folder)
    if options.json:
        told = {"path": ledger.path, "bytes": size, "runs": count, "points": points, "disk": disk.kind}
        print_json({**told, "read_only": ledger.read_only, "copies": found})
        return 0
    print(f"{ledger.path}, {figures.size(size)} on {disk.kind}{', read-only' if ledger.read_only else ''}")
    print(f"runs {count:,}, points {points:,}")
    for path in found:
        print(f"copy: {path}, {figures.size(path.stat().st_size)}, {figures.clock(path.stat().st_mtime, time.time())}")
    if why and not found:
        words(f"The next job keeps a copy beside the runs: {why}.")
    return 0


def merge_files(options: argparse.Namespace) -> int:
    """Merge the files one after the other; one that cannot be read holds up no other."""
    ledger = Ledger.open(options.ledger)
    ledger.check_writable()
    merged = Merged()
    problems: list[Problem] = []
    for path in options.files:
        try:
            merged = merging.joined(merged, merging.merge(ledger, path, progress=progress("runs")))
        except Problem as problem:
            if problem.code in ("disk", "busy"):  # likely our own ledger's
                raise
            problems.append(problem)
    code = tell(options, merged) if len(problems) < len(options.files) else 2
    for each in problems:
        words(str(each))
    return 2 if problems else code


def restore(options: argparse.Namespace) -> int:
    """Merge the copies that jobs keep beside the runs."""
    runs_folder = settings.load().runs_folder
    paths = beside_runs.found(runs_folder)
    if not paths:
        raise Problem(
            f"There is no copy of a ledger in {runs_folder}",
            "Jobs keep one there where the ledger's own disk may not last.",
            "Merge a backup instead: workbench ledger merge FILE",
            code="ledger",
        )
    for path in paths:
        words(f"{path}, {figures.clock(path.stat().st_mtime, time.time())}")
    return tell(options, beside_runs.restore(Ledger.open(options.ledger), paths, progress("runs")))


def tell(options: argparse.Namespace, merged: Merged) -> int:
    """Print what merging did; 1 where a run has two histories of which one was kept."""
    if options.json:
        print_json(asdict(merged))
    else:
        say(merged)
    return 1 if merged.conflicts else 0


def say(merged: Merged) -> None:
    """What merging did, in words."""
    new, changed, same = (len(each) for each in (merged.added, merged.updated, merged.kept))
    evaluated = f"; {merged.evaluations:,} evaluations taken" if merged.evaluations else ""
    print(f"runs: {new:,} added, {changed:,} updated, {same:,} as they were{evaluated}")
    for uid, name in merged.renamed.items():
        words(f"{uid} is called {printable(name)} now: an older run has its name")
    for conflict in merged.conflicts:
        words(f"{printable(conflict.name)} ({conflict.uid}): {conflict.why}")
    say_notes(merged)


def say_notes(merged: Merged) -> None:
    """The notes that would else be gone without a word."""
    for uid, note in merged.notes.items():
        words(f"{uid} was edited elsewhere later than here, and its note with it. Here it was:\n{note}")


def backup(options: argparse.Namespace) -> int:
    """Copy the ledger as it is at this moment."""
    ledger = existing_ledger(options.ledger)
    return _copied(
        options, lambda to: copies.backup(ledger.path, to, replace=options.force, progress=progress("pages"))
    )


def archive(options: argparse.Namespace) -> int:
    """Copy the ledger into one compact file."""
    ledger = existing_ledger(options.ledger)
    return _copied(options, lambda to: copies.archive(ledger.path, to, replace=options.force))


def _copied(options: argparse.Namespace, make: Callable[[Path], int]) -> int:
    if options.to == "-":
        if sys.stdout.isatty():
            raise Problem("A copy is no text for a terminal", do="Send it into a file or a pipe.", code="exists")
        with tempfile.TemporaryDirectory(prefix=".copying-") as folder:
            copy = Path(folder) / "ledger.db"
            make(copy)
            with copy.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
                sys.stdout.buffer.flush()
        return 0
    to = Path(options.to).expanduser().absolute()
    size = make(to)
    if options.json:
        print_json({"path": to, "bytes": size})
    else:
        words(f"{figures.size(size)} in {to}")
    return 0


def check_all(options: argparse.Namespace) -> int:
    """Print what is wrong; 1 where something is left that was not mended."""
    ledger = existing_ledger(options.ledger)
    if options.fix and ledger.read_only:
        raise Problem(f"{ledger.path} is open read-only", "Nothing in it can be mended here.", "Leave out --fix.")
    found = []
    for each in _findings(ledger, options, lambda done, total, what: progress(what)(done, total)):
        found.append(each)
        if not options.json:
            print(f"{shown('✓' if each.mended else '✗')} {printable(each.what)}")
            print("  -> mended" if each.mended else f"  -> {each.do}")
    left = [each for each in found if not each.mended]
    if options.json:
        print_json({"path": ledger.path, "findings": found, "mended": len(found) - len(left), "left": len(left)})
    elif not found:
        words(f"{ledger.path} is whole, and the files that it tells of are there.")
    else:
        words(f"{len(found)} found, {len(found) - len(left)} mended.")
    return 1 if left else 0


def _findings(ledger: Ledger, options: argparse.Namespace, told: checking.Progress) -> Iterator[checking.Finding]:
    try:
        damage = list(checking.damage(ledger))
        yield from damage
        if damage:
            return
        yield from checking.check(ledger, fix=options.fix, progress=told)
        folder = settings.load().runs_folder
        yield from holdings.check(ledger, folder, fix=options.fix, contents=not options.quick, progress=told)
    except Problem as problem:
        if problem.code != "ledger":
            raise
        yield checking.unreadable(problem)
