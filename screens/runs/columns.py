"""The columns of the table of runs: which there are, how wide, and what stands in them for a run and for a group of runs.

A column is named as in the filter: `loss`, `method.rank`, `train/loss.smooth`. Chosen ones are all shown. Else there are those that every run has
something for, then the settings in which the shown runs differ, as many as fit, those that tell most first.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final

from engine.ledger import facts
from engine.ledger.best import higher_is_better
from engine.ledger.facts import Value
from engine.ledger.states import LIVE, State
from engine.ledger.table import Row
from screens.runs.grouping import END, Group, Item
from screens.runs.scene import VERSUS, Scene
from screens.session import View
from screens.widgets import figures, states
from screens.widgets.cells import MARGIN, Cell, Column

TITLES: Final = {
    "loss": "val",
    "best": "best",
    "lr": "rate",
    "tag": "tags",
    "model": "base",
    "model.base": "base",
    "model.quantization": "quant",
    "method.name": "method",
    "training.learning_rate": "rate",
    "training.effective_batch": "batch",
    "training.micro_batch": "micro",
    "training.weight_decay": "decay",
    "training.warmup_ratio": "warmup",
    "training.max_grad_norm": "clip",
    VERSUS: "vs ★",
}
"""Short ones for what is looked at most; others are called by the last part of their name."""

WIDTHS: Final = {"state": 12, "step": 5, "loss": 6, "best": 7, VERSUS: 6, "ends": 6, "age": 3}
PROGRESS: Final = 8  # columns of the step while a run trains: 52/84
NUMBERS: Final = 6  # columns of a figure
WIDEST: Final = 16  # columns of a text that is a setting
SAMPLE: Final = 100  # rows that say how wide a column of texts is
TEXTS: Final = ("name", "state", "cause", "model", "method", "gpu", "tag", "note", "sweep", "source")
ALWAYS: Final = ("state", "step", "loss", "best")
ALSO: Final = ("ends", VERSUS)  # where a run has something for them
LATE: Final = ("gpu", "tag")  # after two settings
NAMES: Final = (
    (130, 36),
    (100, 30),
    (0, 24),
)  # columns of the table, and those that its names have at most before settings do


@dataclass(frozen=True)
class Shown:
    """A column that is shown and what it is named by."""

    name: str
    column: Column


def title(name: str) -> str:
    """What stands over a column."""
    if name in TITLES:
        return TITLES[name]
    if (asked := facts.metric(name)) is not None:
        key, part = asked
        return key.rpartition("/")[2] + {"last": "", "best": " best", "smooth": " ~"}[part]
    return name.rpartition(".")[2].replace("_", " ")


def sorted_by(view: View, name: str) -> View:
    """Sorted by a column: at first with the best or the newest on top, then the other way round."""
    if name == view.sort:
        return replace(view, descending=not view.descending)
    asked = facts.metric(name)
    return replace(view, sort=name, descending=asked is not None and higher_is_better(asked[0]))


def telling(rows: Sequence[Row], scene: Scene) -> frozenset[str]:
    """Which of the columns that not every ledger needs would say something about these runs."""
    found = {
        "ends": any(row.ends is not None and row.state in LIVE for row in rows),
        VERSUS: any(scene.baseline(row) is not None for row in rows) if scene.baselines else False,
        "gpu": len({row.gpu for row in rows}) > 1,
        "tag": any(row.tags for row in rows),
        "live": any(row.state in LIVE for row in rows),
    }
    return frozenset(name for name, tells in found.items() if tells)


def shown(
    view: View, differing: Sequence[str], tells: AbstractSet[str], rows: Sequence[Row], room: int, scene: Scene
) -> tuple[Shown, ...]:
    """The columns for a table of `room` columns of the terminal; the name comes first and takes what is left over."""
    longest = max((len(row.name) + 2 * row.baseline for row in islice(rows, SAMPLE)), default=0)
    least = max(12, min(longest, next(names for width, names in NAMES if room >= width)))
    name = _column("name", least, view, stretch=True)

    def made(each: str) -> Shown:
        if each == "step" and "live" in tells:
            return _column(each, PROGRESS, view)
        return _made(each, view, rows, scene)

    if view.columns:
        return (name, *(made(each) for each in view.columns if each != "name"))
    sorted_by = () if view.sort in ("name", "age", *ALWAYS) else (view.sort,)
    settings = [key for key in differing if key not in sorted_by]
    early, late = [[each for each in some if each in tells] for some in (ALSO, LATE)]
    wanted = dict.fromkeys((*ALWAYS, "age", *sorted_by, *early, *settings[:2], *late, *settings[2:]))
    left = room - MARGIN - least
    fitting: dict[str, Shown] = {}
    for each in wanted:
        one = made(each)
        if one.column.width + 1 <= left or each in ALWAYS:
            fitting[each] = one
            left -= one.column.width + 1
    places = dict.fromkeys((*ALWAYS, VERSUS, *sorted_by, *settings, "tag", "gpu", "ends", "age"))
    return (name, *(fitting[each] for each in places if each in fitting))


def _made(name: str, view: View, rows: Sequence[Row], scene: Scene) -> Shown:
    if name in WIDTHS:
        return _column(name, WIDTHS[name], view)
    if facts.metric(name) is not None:
        return _column(name, NUMBERS, view)
    values = list(map(scene.asker(name), islice(rows, SAMPLE)))
    text = name in TEXTS or any(isinstance(value, str | tuple) for value in values)
    longest = max((len(figure(name, value)) for value in values), default=1)
    return _column(name, min(WIDEST, longest), view, right=not text)


def _column(name: str, width: int, view: View, *, right: bool | None = None, stretch: bool = False) -> Shown:
    over = titled(name, view)
    right = name not in TEXTS if right is None else right
    return Shown(
        name, Column(over, max(width, len(over)), right=right, stretch=stretch, keep_end=END if stretch else 0)
    )


def titled(name: str, view: View) -> str:
    """What stands over a column, with an arrow where the table is sorted by it."""
    newest_first = (view.sort, view.descending) == ("age", False)  # how everybody expects it
    return title(name) + (("↓" if view.descending else "↑") if name == view.sort and not newest_first else "")


def figure(name: str, value: Value) -> str:
    """A value in as few columns as it needs."""
    if value is None or value in ("", ()):
        return figures.NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return Path(value).name if name == "model.base" else value
    if isinstance(value, tuple):
        return ", ".join(value)
    if name == "age":
        return figures.duration(value)
    if name == VERSUS:
        return f"{100 * value:+.1f}%" if abs(value) < 9.995 else f"{100 * value:+.0f}%"
    if name == "lr" or name.endswith(("learning_rate", "/rate")):
        return figures.scientific(value)
    if facts.metric(name) is not None:
        return figures.value(value)
    return f"{value:g}" if abs(value) < 1e6 else f"{value:.0f}"


# What stands in a line


def cells(line: Item, columns: Sequence[Shown], scene: Scene) -> tuple[Cell, ...]:
    """A line of the table, as it is drawn."""
    if line.row is not None:
        return tuple(_cell(line.row, each.name, scene, inside=line.group is not None) for each in columns)
    assert line.group is not None
    return tuple(_summed(line, line.group, each.name, scene) for each in columns)


def _cell(row: Row, name: str, scene: Scene, *, inside: bool) -> Cell:
    past = "" if row.state in LIVE else "$foreground-muted"
    value = scene.value(row, name)
    if name == "name":
        return ("  " if inside else "") + row.name + (" ★" if row.baseline else "")
    if name == "state":
        return states.styled(row.state, row.cause, scene.places.get(row.id))
    if name == "step":
        return _progress(row)
    if name == "ends":
        return figures.end(row.ends if row.state in LIVE else None, scene.now), past
    if name == "best" and row.id in scene.leaders:
        return f"↓{figure(name, value)}", "bold $text-success"
    if name == VERSUS and isinstance(value, float) and value:
        return figure(name, value), "$text-success" if value < 0 else "$text-error"
    measured = name in ("loss", "best") or facts.metric(name) is not None
    return figure(name, value), "" if measured else past


def _progress(row: Row) -> str:
    """`52/84` while it trains, then how far it came."""
    if not row.step:
        return figures.NONE
    step = figures.count(row.step)
    if not row.steps or row.state not in LIVE:
        return step
    of = f"{step}/{figures.count(row.steps)}"
    return of if len(of) <= PROGRESS else f"{step} {100 * row.step // row.steps}%"


def _summed(line: Item, group: Group, name: str, scene: Scene) -> Cell:
    """What a column says of a group: the states of its runs, their best, what they have in common."""
    if name == "name":
        return line.title, "bold"
    if name == "state":
        return _states(group.states)
    if name in ("best", VERSUS) or name.endswith(".best"):
        return figure(name, group.found(name, scene.best)), "bold"
    if name == "ends":
        ends = [row.ends for row in group.rows if row.ends is not None and row.state in LIVE]
        return figures.end(max(ends, default=None), scene.now)
    if name == "age":
        return figures.duration(scene.now - max(row.created for row in group.rows)), "$foreground-muted"
    return figure(name, group.found(name, scene.common)), "$foreground-muted"


def _states(found: dict[State, int]) -> Cell:
    """`✓ 5 ✗ 1`, what needs looking at in its colour."""
    bad = State.FAILED in found or State.LOST in found
    words = " ".join(f"{states.SYMBOLS[state]}{figures.count(count)}" for state, count in found.items())
    return words, "$text-error" if bad and len(found) == 1 else ""
