"""`workbench import`: runs of other programs and other ledgers, into this one; again for what they have gained since."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.errors import Problem
from engine.ledger import Ledger, labels, merging, runs
from engine.ledger.exchange import adding, documents, sources
from workbench import settings
from workbench.cli.ledger import say_notes
from workbench.cli.output import print_json, print_table, progress, words


@dataclass(frozen=True)
class Done:
    """What became of a run. `points` is None where whole runs were taken; `left` says why it was left as it is."""

    uid: str
    name: str
    kind: str
    path: str
    new: bool
    changed: bool
    points: int | None
    left: str = ""
    troubles: tuple[str, ...] = ()
    waiting: int = 0


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `import` to the command line."""
    parser = commands.add_parser(
        "import",
        help="runs of TensorBoard, wandb, trackio, Trainer, CSV, or another ledger",
        description="Bring runs in: TensorBoard event files, wandb's offline folders, trackio's projects, a Trainer's output folder, "
        "CSV, JSON lines or Parquet with a column of steps, what `workbench runs export` wrote, other ledgers. Importing again "
        "adds what has come since, and nothing twice. The files stay where they are.",
        epilog="Exit codes: 0 done; 1 something could not be read or was left as it is; 2 could not run.",
    )
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="a file, a run's folder, or a folder of runs"
    )
    parser.add_argument("--as", dest="kind", metavar="KIND", help=f"what it is: {', '.join(sources.KINDS)}")
    parser.add_argument("--name", help="what to call the run (where there is one)")
    parser.add_argument("--tag", action="append", default=[], help="give the runs a tag; may be repeated")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Import what lies at the paths; what can be read is taken though something else cannot."""
    tags = [labels.checked_tag(tag) for tag in options.tag]
    ledger = Ledger.open(options.ledger)
    if ledger.read_only:
        raise Problem(
            f"{ledger.path} is open read-only",
            "Nothing can be imported into it.",
            "Copy it to a folder you can write to and import into the copy.",
            code="ledger",
        )
    done: list[Done] = []
    problems: list[Problem] = []
    for path in options.paths:
        for each in _imported(ledger, path.expanduser(), options):
            if isinstance(each, Problem):
                problems.append(each)
            else:
                done.append(each)
    for tag in tags:
        labels.tag(ledger, [runs.find(ledger, each.uid) for each in done if not each.left], tag)
    if options.json:
        print_json([asdict(each) for each in done])
    else:
        _print(done)
    for problem in problems:
        words(str(problem))
    return 2 if problems else 1 if any(each.troubles or each.left for each in done) else 0


def _imported(ledger: Ledger, path: Path, options: argparse.Namespace) -> Iterator[Done | Problem]:
    """What became of each run at the path."""
    try:
        if options.kind is None and path.is_file() and (merged := _merged(ledger, path)) is not None:
            yield from _told(ledger, path, merged)
            if options.name:
                words(f"--name was passed over: the runs of {path.name} have theirs. Others: workbench runs rename")
            return
        found = sources.find(path, options.kind)
    except Problem as problem:
        yield problem
        return
    if options.name and len(found.readers) > 1:
        yield Problem(
            f"{path} has {len(found.readers)} runs", "One name is not for several.", "Leave --name out.", code="import"
        )
        return
    if found.also:
        words(
            f"{path}: read as {found.readers[0].kind}. For the other files there: --as {' or '.join(found.also)}; "
            f"where they tell of one training: workbench watch {path} --once"
        )
    folder = settings.load().runs_folder
    tell = progress("runs")
    for place, reader in enumerate(found.readers, 1):
        try:
            imported = reader.read()
            if imported is None:
                yield Problem(
                    f"{reader.path} has nothing whole yet", "It is empty or half written.", "Import it again later."
                )
                continue
            added = adding.add(ledger, imported, runs_folder=folder, name=options.name or "")
        except Problem as problem:
            yield problem
            continue
        if options.name and not added.new and options.name != added.name and not added.left:
            words(f"--name was passed over: {added.name} is here already. Another: workbench runs rename")
        tell(place, len(found.readers))
        yield Done(
            *(added.uid, added.name, imported.kind, str(imported.path), added.new, bool(added.new or added.points)),
            *(added.points, added.left, imported.troubles, imported.waiting),
        )


def _merged(ledger: Ledger, path: Path) -> merging.Merged | None:
    """What taking in a ledger or an export of one did; None where the file is neither.

    Raises:
        Problem: it is one, and cannot be read.
    """
    if sources.is_ledger(path):
        return merging.merge(ledger, path, progress=progress("runs"))
    return documents.take(ledger, path, progress("runs")) if documents.is_document(path) else None


def _told(ledger: Ledger, path: Path, merged: merging.Merged) -> Iterator[Done]:
    why = {conflict.uid: conflict.why for conflict in merged.conflicts}
    say_notes(merged)
    for group in (merged.added, merged.updated, merged.kept):
        for run in filter(None, (runs.by_uid(ledger, uid) for uid in group)):
            left = why.get(run.uid) or ("" if run.deleted is None else adding.BINNED)
            new, changed = group is merged.added, group is not merged.kept
            yield Done(run.uid, run.name, "ledger", str(path), new, changed, None, left)


def _print(done: list[Done]) -> None:
    rows = [
        (
            each.name,
            each.uid,
            each.kind,
            "left" if each.left else "new" if each.new else "updated" if each.changed else "nothing new",
            each.points,
        )
        for each in done
    ]
    if rows:
        print_table(("name", "uid", "from", "", "points"), rows, right=("points",))
    for each in done:
        if each.left:
            back = f" Get it back: workbench runs restore {each.uid}" if each.left == adding.BINNED else ""
            words(f"{each.name} was left as it is: {each.left}.{back}")
        for trouble in each.troubles:
            words(f"{each.name}: {trouble}")
        if each.waiting and not each.troubles:
            words(f"{each.name}: the last {each.waiting:,} bytes are only half written yet. Import it again later.")
