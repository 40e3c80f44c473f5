"""`workbench runs`: what is in the ledger, and orders to what is at work."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeAlias

Add: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add(commands: Add) -> None:
    """Add `runs` and its own commands to the command line."""
    from workbench.cli.runs import export, listing, order, queue, read
    from workbench.cli.runs import resume as resuming
    from workbench.cli.runs import show as shown
    from workbench.cli.runs import why as asking

    parser = commands.add_parser(
        "runs",
        help="list, show, diff, tag, resume, stop, delete ... runs",
        description="Runs in the ledger. A run is named by its name, its uid, or the beginning of its uid. Without a command: list.",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=listing.list_runs, **listing.NO_OPTIONS)
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND")

    listing.add_options(_verb(verbs, "list", "runs, newest first, or those that pass a filter", listing.list_runs))
    show = _verb(verbs, "show", "everything about a run", shown.show, many="one")
    show.add_argument(
        "--profile", action="store_true", help="only its resolved profile, as TOML that `train` takes again"
    )
    _verb(verbs, "follow", "show what a run does until it ends; Ctrl-C detaches", read.watch, many="one")
    _verb(verbs, "diff", "settings, data and versions in which runs differ", read.diff, many="several")
    asking.add_options(_verb(verbs, "why", "which setting mattered for a metric", asking.why))

    resume = _verb(verbs, "resume", "go on from the last checkpoint", resuming.resume, many="any")
    resume.add_argument(
        "--all",
        action="store_true",
        help="queue all that a reboot, a preemption or a signal ended, for start-up scripts; not what a person stopped",
    )
    resume.add_argument("--failed", action="store_true", help="with --all: those that failed too")
    resume.add_argument("--queue", action="store_true", help="wait until the GPU is free, then go on")
    resume.add_argument("--follow", action="store_true", help="show progress until the run ends (one run)")
    queued = _verb(verbs, "queue", "show who waits for a turn, or give a run another place", queue.queued)
    queued.add_argument("runs", nargs="?", metavar="RUN", help="the run to move")
    place = queued.add_mutually_exclusive_group()
    for end in ("first", "last"):
        place.add_argument(f"--{end}", dest="where", action="store_const", const=end, help=f"put it {end}")
    place.add_argument("--before", metavar="OTHER", help="put it before another that waits")
    _deleting(verbs)
    _labelling(verbs)

    export.add_options(_verb(verbs, "export", "write what is known of runs to a file", export.export, many="any"))

    _verb(verbs, "stop", "stop after a checkpoint; it can be resumed", order.give, many="several")
    _verb(verbs, "pause", "pause, keeping the GPU's memory", order.give, many="several")
    _verb(verbs, "continue", "go on after a pause", order.give, many="several")
    _verb(verbs, "checkpoint", "save a checkpoint now", order.give, many="several")
    _verb(verbs, "evaluate", "measure validation loss now (suites: workbench evaluate)", order.give, many="several")
    rate = _verb(verbs, "rate", "multiply the learning rate of the schedule", order.give, many="one")
    rate.add_argument("factor", type=order.factor, metavar="FACTOR", help="0.5 halves it, 1 goes back to the schedule")


def _deleting(verbs: Add) -> None:
    from workbench.cli.runs import choosing, deleting

    delete = _verb(verbs, "delete", "put runs with their files into the bin", deleting.delete, many="any")
    choosing.add_filter(delete)
    _verb(verbs, "bin", "show what was deleted and can be restored", deleting.show_bin)
    _verb(verbs, "restore", "get runs back out of the bin", deleting.restore, many="several")
    purge = _verb(
        verbs, "purge", "empty the bin: remove for good all in it, or the named runs", deleting.purge, many="any"
    )
    purge.add_argument("--older-than", type=deleting.age, metavar="AGE", help="only what was deleted so long ago: 7d")
    for parser in (delete, purge):
        parser.add_argument("--yes", action="store_true", help="do not ask")


def _labelling(verbs: Add) -> None:
    from workbench.cli.runs import choosing, labelling

    tag = _verb(verbs, "tag", "give runs a tag, or show which tags there are", labelling.tag)
    tag.add_argument("tag", nargs="?", metavar="TAG")
    untag = _verb(verbs, "untag", "take a tag from runs", labelling.untag)
    untag.add_argument("tag", metavar="TAG")
    archive = _verb(verbs, "archive", "leave runs out of the table until they are asked for", labelling.archive)
    unarchive = _verb(verbs, "unarchive", "show archived runs again", labelling.archive)
    for parser in (tag, untag, archive, unarchive):
        parser.add_argument("runs", nargs="*", metavar="RUN")
        choosing.add_filter(parser)
    rename = _verb(verbs, "rename", "give a run another name", labelling.rename, many="one")
    rename.add_argument("name", metavar="NAME")
    baseline = _verb(verbs, "baseline", "hold others against a run, or show the baselines", labelling.baseline)
    baseline.add_argument("runs", nargs="?", metavar="RUN")
    baseline.add_argument("--off", action="store_true", help="it is no baseline any more")
    note = _verb(verbs, "note", "your own words about a run, in Markdown", labelling.note, many="one")
    note.add_argument("text", nargs="?", metavar="TEXT", help='the note; "" removes it; without it, the note is shown')
    note.add_argument("--file", metavar="FILE", help="take it from a file, - is stdin")
    note.add_argument("--edit", action="store_true", help="write it in your editor (VISUAL, EDITOR)")


def _verb(
    verbs: Add, name: str, does: str, run: Callable[[argparse.Namespace], int], *, many: str = "none"
) -> argparse.ArgumentParser:
    """A command of `runs`; `many` says how many runs it takes: none, one, several (at least one), any."""
    parser = verbs.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
    if many != "none":
        parser.add_argument("runs", nargs=1 if many == "one" else "+" if many == "several" else "*", metavar="RUN")
    # Without a default of its own it leaves alone what `runs --json` has set.
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="as JSON")
    parser.set_defaults(run=run, verb=name)
    return parser
