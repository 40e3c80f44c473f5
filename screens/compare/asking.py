"""From names that are typed to an evaluation that runs."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from engine.errors import Problem
from engine.evaluate.suites import check_overlap, find_suite, known_suites, read_suite
from engine.ledger import Ledger, runs
from engine.ledger.jobs import Job
from engine.ledger.runs import Run
from engine.ledger.states import LIVE


def names(typed: str) -> list[str]:
    """What was typed, apart: blanks or commas between, quotes around names that hold them."""
    words = shlex.shlex(typed, posix=True, punctuation_chars=False)
    words.whitespace += ","
    words.whitespace_split = True
    words.commenters = ""
    try:
        return list(words)
    except ValueError:  # a quote that is not closed: one name
        return [typed.strip("\"' ")]


def line_of(them: Iterable[str]) -> str:
    """Names as they are typed, so that `names` finds them again."""
    return " ".join(shlex.quote(name) if set(name) & set(" ,\"'\\") else name for name in them)


def suites(ledger: Ledger, run: Run) -> tuple[list[str], list[str]]:
    """The suites that can be put to a run, and those that its profile wants: all where it names none."""
    known = known_suites(run.folder)
    wanted = runs.settings(ledger, run).get("evaluation.suites")
    return known, [str(name) for name in wanted] if isinstance(wanted, list) and wanted else known


def start(ledger: Ledger, chosen: Sequence[Run], suites: Sequence[str]) -> Job:
    """Read and check the suites, then start the evaluation.

    Raises:
        Problem: a run is not over, a suite cannot be read, or a run was trained on its items.
    """
    from engine import launch  # costs time that opening the application should not pay

    for run in chosen:
        if run.state in LIVE:
            raise Problem(f"{run.name} is {run.state}", "Its result still changes.", "Let it finish first.")
        for name in suites:
            check_overlap(read_suite(find_suite(name, run.folder)), run)
    return launch.start_evaluation(ledger, chosen, suites)
