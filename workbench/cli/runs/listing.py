"""`workbench runs list`: the runs that pass a filter, in an order, in columns of one's choice."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final

from engine.ledger import beside_runs, facts, queue, runs, summaries
from engine.ledger.selecting import CREATED, Selected, field_called, in_order, selected
from engine.ledger.table import Row
from screens.widgets import figures
from workbench import settings
from workbench.cli.existing import existing_ledger
from workbench.cli.output import Cell, figure, print_json, print_table, state_word, words

Metrics = Mapping[str, summaries.Summary]
USUAL: Final = ("name", "state", "step", "train/loss", "loss", "best", "ends", "age", "uid")
TITLES: Final = {"train/loss": "train", "loss": "val"}
RIGHT: Final = ("step", "ends", "age")
NO_OPTIONS: Final[dict[str, object]] = {
    "filter": None,
    "sort": None,
    "reverse": False,
    "limit": None,
    "columns": None,
    "all": False,
}
"""Those of `runs` alone, which lists as well."""

LANGUAGE: Final = (
    "A filter has parts that must all hold. A word is looked for in the name. FIELD=a,b is one of these (states may be cut short), != is none,"
    ' FIELD~text contains, !~ does not, < <= > >= compare numbers (1e-4 .5 4.1k) and durations (age<2d); FIELD="" has none. tag:a is tag=a,'
    " !tag:a or -tag:a the opposite. Fields: "
    f"{', '.join(field.name for field in facts.FIELDS)}; any setting (method.rank, dropout) and any metric (train/loss, train/loss.best,"
    " train/loss.smooth)."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `list`."""
    parser.epilog = LANGUAGE
    parser.add_argument(
        "--filter",
        metavar="FILTER",
        help="as typed after / on the Runs screen: 'state=finished loss<1.2 model~llama tag:medical'",
    )
    parser.add_argument(
        "--sort",
        metavar="FIELD",
        help="by name, loss, best, lr, age, any setting (method.rank) or metric (train/loss.best): the best or lowest first; created: newest first",
    )
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    parser.add_argument("--limit", type=_count, metavar="N", help="at most so many")
    parser.add_argument(
        "--columns", metavar="FIELD,...", help="what stands in the table, as in a filter: name,state,lr,method.rank"
    )
    parser.add_argument("--all", action="store_true", help="archived runs too")


def list_runs(options: argparse.Namespace) -> int:
    """The runs that pass the filter, newest first unless another order is asked for."""
    if not (options.ledger.exists() or options.ledger_named):  # before the first run, which is no problem
        return _nothing(options)
    ledger = existing_ledger(options.ledger)
    own = [name.strip() for name in (options.columns or "").split(",") if name.strip()]
    by = options.sort or CREATED
    found = selected(ledger, options.filter or "", names=[*own, *USUAL, by], archived=options.all)
    columns = [name if name in ("uid", *TITLES) else field_called(name, found.fields).name for name in own or USUAL]
    rows = list(islice(in_order(found, by, reverse=options.reverse), options.limit))
    if not rows:
        hidden = 0 if options.all else sum(run.archived is not None for run in runs.listed(ledger))
        return _nothing(options, archived=hidden)
    places = queue.places(ledger)
    if options.json:
        metrics = summaries.of_all(ledger)
        print_json([_json(found, row, metrics.get(row.id, {}), places, columns if own else ()) for row in rows])
        return 0
    cells = [[_cell(found, row, name, places) for name in columns] for row in rows]
    figures_of = {name for name in columns if name in RIGHT or _numbers(found, rows, name)}
    titles = [TITLES.get(name, name) for name in columns]
    print_table(titles, cells, right=[TITLES.get(name, name) for name in figures_of])
    return 0


def _nothing(options: argparse.Namespace, *, archived: int = 0) -> int:
    more = f" {archived} archived: --all shows them." if archived else ""
    if options.json:
        print_json([])
    elif options.filter or archived:
        words(("No run passes the filter." if options.filter else "No run is to be shown.") + more)
    else:
        copied = beside_runs.found(settings.load().runs_folder)
        words("There are no runs yet. Start one: workbench train PROFILE, or try: workbench demo")
        if copied:
            words(f"A copy of an earlier ledger lies beside the runs ({copied[0]}): workbench ledger restore")
    return 0


def _cell(found: Selected, row: Row, name: str, places: Mapping[int, int]) -> Cell:
    """What a column has for a run, as it is shown."""
    if name == "uid":
        return row.uid
    if name == "state":
        return state_word(row.state, row.cause, places.get(row.id))
    if name == "step":
        return f"{row.step}/{row.steps}" if row.steps and row.step < row.steps else str(row.step or "–")
    if name == "ends":
        return time.strftime("%H:%M", time.localtime(row.ends)) if row.ends and row.state == "running" else None
    value = found.value(row, name)
    if name == "age":
        return figures.duration(float(str(value)))
    if isinstance(value, tuple):
        return " ".join(value) or None
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) or value is None else figure(value)


def _numbers(found: Selected, rows: Sequence[Row], name: str) -> bool:
    values = [found.value(row, name) for row in rows] if name != "uid" else []
    there = [value for value in values if value is not None]
    return bool(there) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in there)


def _json(
    found: Selected, row: Row, metrics: Metrics, places: Mapping[int, int], columns: Sequence[str]
) -> dict[str, object]:
    asked = {name: row.uid if name == "uid" else found.value(row, name) for name in columns}
    return {**brief(row, metrics, row.tags), "queue": places.get(row.id), **({"columns": asked} if columns else {})}


def brief(run: runs.Run | Row, metrics: Metrics, tags: Sequence[str]) -> dict[str, object]:
    """The figures of a run that every list has."""
    return {
        "uid": run.uid,
        "name": run.name,
        "state": run.state,
        "cause": run.cause,
        "step": run.step,
        "steps": run.steps,
        "created": run.created,
        "ends": run.ends,
        "note": run.note,
        "tags": tags,
        "source": run.source,
        "gpu": run.gpu,
        "sweep": run.sweep,
        "baseline": run.baseline,
        "archived": run.archived is not None,
        "metrics": {
            key: {
                "last": summary.last,
                "best": summary.best,
                "last_step": summary.last_step,
                "best_step": summary.best_step,
            }
            for key, summary in sorted(metrics.items())
        },
    }


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a count: 1, 2, 3 ...")
    return int(text)
