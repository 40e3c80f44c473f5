"""`workbench runs tag`, `untag`, `rename`, `baseline`, `archive`, `unarchive` and `note`: what people say of runs."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from engine.errors import Problem, closest
from engine.ledger import Ledger, labels, runs
from engine.ledger.runs import Run
from workbench.cli.existing import existing_ledger
from workbench.cli.output import print_json, print_table, words
from workbench.cli.runs.choosing import chosen, named

LONGEST: Final = 1_000_000  # characters of a note


def tag(options: argparse.Namespace) -> int:
    """Give runs a tag; without one, show which there are."""
    ledger = existing_ledger(options.ledger)
    if options.tag is None:
        if options.filter:
            raise Problem("Which tag?", do="Name it first: workbench runs tag TAG --filter FILTER")
        known = labels.known_tags(ledger)
        if options.json:
            print_json([{"tag": name, "runs": count} for name, count in known.items()])
        elif known:
            print_table(("tag", "runs"), list(known.items()))
        else:
            words("There are no tags yet: workbench runs tag TAG RUN")
        return 0
    found = chosen(ledger, options)
    labels.tag(ledger, found, options.tag)
    return _told(options, ledger, found, f"Tagged {options.tag}")


def untag(options: argparse.Namespace) -> int:
    """Take a tag from runs."""
    ledger = existing_ledger(options.ledger)
    found = chosen(ledger, options)
    if not options.json and found and not any(options.tag in labels.tags(ledger, run) for run in found):
        words(f"None of them has the tag {options.tag}{closest(options.tag, labels.known_tags(ledger))}")
        return 0
    labels.untag(ledger, found, options.tag)
    return _told(options, ledger, found, f"No longer tagged {options.tag}")


def rename(options: argparse.Namespace) -> int:
    """Give a run another name."""
    ledger = existing_ledger(options.ledger)
    run = runs.find(ledger, options.runs[0])
    labels.rename(ledger, run, options.name)
    return _told(options, ledger, [run], f"{run.name} is called")


def baseline(options: argparse.Namespace) -> int:
    """Hold others against a run, or no longer; without one, show the baselines."""
    ledger = existing_ledger(options.ledger)
    if options.runs is None:
        if options.off:
            raise Problem("Which run is to be no baseline any more?", do="Name it: workbench runs baseline RUN --off")
        found = [run for run in runs.listed(ledger) if run.baseline]
        if not found and not options.json:
            words("There is no baseline yet: workbench runs baseline RUN")
        return _told(options, ledger, found)
    run = runs.find(ledger, options.runs)
    same = [each for each in runs.listed(ledger) if each.baseline and each.comparable == run.comparable]
    labels.set_baseline(ledger, run, on=not options.off)
    if options.off:
        return _told(options, ledger, [run], "No longer a baseline")
    former = [each for each in same if each.id != run.id]
    return _told(options, ledger, [run], f"Baseline, no longer {named(former)}" if former else "Baseline")


def archive(options: argparse.Namespace) -> int:
    """Leave runs out of the table, or (`unarchive`) show them again."""
    ledger = existing_ledger(options.ledger)
    found = chosen(ledger, options)
    if options.verb == "archive":
        labels.archive(ledger, found)
        return _told(options, ledger, found, "Archived")
    labels.unarchive(ledger, found)
    return _told(options, ledger, found, "Out of the archive")


def note(options: argparse.Namespace) -> int:
    """Show or set the user's own words about a run."""
    ledger = existing_ledger(options.ledger)
    run = runs.find(ledger, options.runs[0])
    if sum((options.text is not None, options.file is not None, options.edit)) > 1:
        raise Problem("A note comes from one place", do="Give a TEXT, or --file, or --edit.")
    text: str | None = options.text
    if options.file is not None:
        text = _read(options.file)
    elif options.edit:
        text = _edited(run.note)
    if text is not None:
        labels.set_note(ledger, run, text.strip())
        run = runs.find(ledger, run.uid)
    if options.json:
        print_json({"uid": run.uid, "name": run.name, "note": run.note})
    elif text is None and run.note:
        print(run.note)
    elif text is None:
        words(f"{run.name} has no note. Write one: workbench runs note {run.name} TEXT")
    return 0


def _read(place: str) -> str:
    """A file's text, or of `-` what comes on stdin."""
    try:
        text = sys.stdin.read(LONGEST + 1) if place == "-" else Path(place).expanduser().read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Problem(f"{place} is not text", f"{error.reason} at byte {error.start}.", "Save it as UTF-8.") from error
    except OSError as error:
        raise Problem(f"{place} cannot be read", f"{error.strerror}.") from error
    if len(text) > LONGEST:
        raise Problem(f"{place} is too long for a note", f"It has more than {LONGEST:,} characters.")
    return text


def _edited(before: str) -> str:
    """The text as it comes back from the user's editor."""
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    editor = shlex.split(named) if named else [shutil.which("nano") or shutil.which("vi") or ""]
    if not editor[0] or not (sys.stdin.isatty() and sys.stdout.isatty()):
        why = "This is no terminal." if editor[0] else "EDITOR is not set, and neither nano nor vi is here."
        raise Problem("There is no editor for the note", why, "Give the TEXT, or --file FILE.")
    with tempfile.TemporaryDirectory(prefix="workbench-") as folder:  # readable for its owner alone
        path = Path(folder) / "note.md"
        path.write_text(before, encoding="utf-8")
        try:
            code = subprocess.run([*editor, str(path)], check=False).returncode
        except OSError as error:
            raise Problem(f"{editor[0]} cannot be started", f"{error.strerror}.", "Set EDITOR to another.") from error
        if code:
            raise Problem("The note is as it was", f"{editor[0]} ended with code {code}.")
        return _read(str(path))


def _told(options: argparse.Namespace, ledger: Ledger, changed: Sequence[Run], did: str = "") -> int:
    """The runs as they are now; a person is told in a sentence what was done to them, or without one is shown them."""
    now = [runs.find(ledger, run.uid) for run in changed]
    if options.json:
        print_json(
            [
                {
                    "uid": run.uid,
                    "name": run.name,
                    "tags": labels.tags(ledger, run),
                    "baseline": run.baseline,
                    "archived": run.archived is not None,
                }
                for run in now
            ]
        )
    elif did:
        words(f"{did}: {named(now)}" if now else "No run passes the filter.")
    elif now:
        print_table(("name", "uid"), [(run.name, run.uid) for run in now])
    return 0
