"""`workbench evaluate`: put suites to runs and to their base, and wait for the scores."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Final

from engine.errors import Problem
from engine.evaluate.pairing import base_of, finished
from engine.evaluate.suites import check_overlap, find_suite, from_anywhere, known_suites, read_suite
from engine.evaluate.wording import figure
from engine.ledger import Ledger, jobs, runs
from engine.ledger.evaluations import Evaluation
from engine.ledger.jobs import Job
from engine.ledger.runs import Run
from engine.ledger.states import LIVE, State
from workbench.cli.existing import existing_ledger
from workbench.cli.output import print_json, print_table, printable, words

POLL_EVERY: Final = 0.25  # seconds
TOLD_EVERY: Final = 4.0  # seconds between progress lines where stderr is no terminal
DETACHED: Final = 130


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `evaluate` to the command line."""
    parser = commands.add_parser(
        "evaluate",
        help="put suites to runs and their base",
        description="Put suites to runs and to their base. What was answered before is not asked again.",
        epilog="Exit 0 when all is answered; 2 when it could not be.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="name or uid of a run that has a result")
    parser.add_argument(
        "--suite",
        action="append",
        metavar="NAME",
        help="a suite that ships, a .jsonl file, or test (the rows that the run held out); may be given several "
        "times (default: the profile's)",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--follow", action="store_true", help="wait and show progress (the default); Ctrl-C detaches")
    how.add_argument("--detach", action="store_true", help="start it and return")
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Start the evaluation that the options describe and wait for it."""
    from engine import launch

    ledger = existing_ledger(options.ledger)
    chosen = list({found.uid: found for found in (runs.find(ledger, name) for name in options.runs)}.values())
    suites = _suites(ledger, chosen, options.suite)
    names = _checked(chosen, suites)
    job = launch.start_evaluation(ledger, chosen, suites)
    if options.detach:
        words(f"The evaluation goes on by itself. Its log is {job.log}\nAfterwards: {_compare_command(chosen)}")
        if options.json:
            print_json({"job": job.uid, "state": job.state, "evaluations": []})
        return 0
    try:
        ended = wait(ledger, job)
    except KeyboardInterrupt:
        words(f"\nDetached: the evaluation goes on.\nAfterwards: {_compare_command(chosen)}")
        return DETACHED
    if ended.state is not State.FINISHED:
        state = jobs.seen_state(ended)
        words(f"The evaluation {'was stopped' if state is State.STOPPED else 'is ' + state}.\n{ended.message}".rstrip())
        words(f"Its log is {ended.log}\nStarted again, it goes on where it was.")
        return 2
    _print(ledger, chosen, names, as_json=options.json)
    return 0


def _suites(ledger: Ledger, chosen: Sequence[Run], named: Sequence[str] | None) -> list[str]:
    """What is asked for, else what the runs' profiles name."""
    if not named:
        own = [runs.settings(ledger, run).get("evaluation.suites") for run in chosen]
        named = list(dict.fromkeys(str(name) for names in own if isinstance(names, list) for name in names))
    if not named:
        known = ", ".join(known_suites(chosen[0].folder))
        raise Problem(
            "No suite is named", "The profile names none either.", f"Add --suite NAME, of {known}", code="suite"
        )
    return [from_anywhere(name) for name in named]


def _checked(chosen: Sequence[Run], suites: Sequence[str]) -> set[str]:
    """The suites' own names, once all are read and none is of a run's training rows."""
    names: set[str] = set()
    for run in chosen:
        for suite in suites:
            read = read_suite(find_suite(suite, run.folder))
            check_overlap(read, run)
            names.add(read.name)
    return names


def wait(ledger: Ledger, job: Job, counted: str = " answers") -> Job:
    """The job once it has ended, with its progress on stderr: one line that changes on a terminal, a line now and then
    elsewhere.
    """
    live = sys.stderr.isatty()
    told, told_at = "", 0.0
    while True:
        job = jobs.get(ledger, job.uid)
        state = jobs.seen_state(job)
        share = f"  {job.done}/{job.total}{counted}" if job.total else ""
        line = f"{state}  {printable(job.doing)}{share}".rstrip()
        ended = state not in LIVE
        if line != told and (ended or live or time.monotonic() - told_at > TOLD_EVERY):
            if live:
                sys.stderr.write(f"\r\x1b[K{line}")
                sys.stderr.flush()
            else:
                words(line)
            told, told_at = line, time.monotonic()
        if ended:
            if live:
                words("")
            return job
        time.sleep(POLL_EVERY)


def _print(ledger: Ledger, chosen: Sequence[Run], names: set[str], *, as_json: bool) -> None:
    found: list[tuple[Run, Evaluation, Evaluation | None]] = []
    for run in (runs.find(ledger, run.uid) for run in chosen):
        found += [(run, one, base_of(ledger, run, one)) for one in finished(ledger, run) if one.suite in names]
    if as_json:
        shown = [
            {
                "run": run.name,
                "suite": one.suite,
                "n": one.n,
                "scores": one.scores,
                "base": base.scores if base else None,
            }
            for run, one, base in found
        ]
        print_json({"evaluations": shown})
        return
    rows = [
        (run.name, one.suite, one.n, name, figure(name, base.scores[name]) if base else None, figure(name, score))
        for run, one, base in found
        for name, score in one.scores.items()
    ]
    print_table(("run", "suite", "n", "metric", "base", "tuned"), rows, right=("base", "tuned"))
    words(f"How sure that is: {_compare_command(chosen)}")


def _compare_command(chosen: Sequence[Run]) -> str:
    return f"workbench compare {' '.join(run.name for run in chosen)}"
