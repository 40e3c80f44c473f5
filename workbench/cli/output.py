"""What commands print: figures to stdout, for people as a table or for machines as JSON; words to stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import orjson
from rich.cells import cell_len

from engine.ledger.states import State
from screens.widgets.states import described

NOTHING: Final = "–"
PLAIN: Final = str.maketrans({"○": "o", "◌": "o", "●": ">", "‖": "=", "✓": "+", "■": ".", "✗": "x", "–": "-", "→": ">"})
"""Symbols for terminals and files that know only ASCII."""
Cell = str | int | float | None


def print_json(value: object) -> None:
    """`value` as indented JSON on stdout. Dataclasses and NumPy values are understood; NaN and infinities become null."""
    data = orjson.dumps(
        value,
        default=_plain,
        option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS,
    )
    sys.stdout.write(data.decode())
    sys.stdout.flush()


def print_table(
    titles: Sequence[str], rows: Sequence[Sequence[Cell]], *, right: Sequence[str] = (), titled: bool = True
) -> None:
    """Rows under their titles on stdout.

    Columns of numbers are right-aligned, and so are those named in `right` (figures that come as text: "4.1k", "12m"). None
    shows as a dash. `titled` False leaves the titles out.
    """
    columns = [[row[place] for row in rows] for place in range(len(titles))]
    texts = [[title, *map(_text, column)] for title, column in zip(titles, columns, strict=True)]
    flush_right = [
        title in right or (bool(column) and all(isinstance(cell, int | float | None) for cell in column))
        for title, column in zip(titles, columns, strict=True)
    ]
    widths = [max(map(cell_len, column)) for column in texts]
    for line in list(zip(*texts, strict=True))[0 if titled else 1 :]:
        cells = [
            " " * (width - cell_len(cell)) + cell if aligned else cell + " " * (width - cell_len(cell))
            for cell, width, aligned in zip(line, widths, flush_right, strict=True)
        ]
        sys.stdout.write(shown("  ".join(cells).rstrip()) + "\n")
    sys.stdout.flush()


def words(text: str) -> None:
    """Lines for people, on stderr, so that stdout holds nothing but figures; what they quote cannot steer the terminal."""
    print("\n".join(map(printable, text.split("\n"))), file=sys.stderr, flush=True)


def progress(what: str) -> Callable[[int, int], None]:
    """A function that tells how many of how many are done, on one line of stderr where that is a terminal and there are several."""
    shown = sys.stderr.isatty()

    def tell(done: int, total: int) -> None:
        if shown and total > 1:
            end = "\r\x1b[K" if done == total else ""
            print(f"\r{done:,} of {total:,} {what}{end}", end="", file=sys.stderr, flush=True)

    return tell


def figure(value: float | None, digits: int = 4) -> str:
    """A number with `digits` significant digits, or all of those before the point: `0.8814`, `152.3`, `17980`, `2e-05`."""
    if value is None:
        return NOTHING
    return f"{value:.0f}" if 10**digits <= abs(value) < 1e15 else f"{value:.{digits}g}"


def state_word(state: State, cause: str = "", place: int | None = None) -> str:
    """A state as a symbol and a word; a failure says its cause, who waits in the queue the place."""
    return shown(described(state, cause, place))


def shown(text: str) -> str:
    """`text` as stdout can show it: symbols become letters where it is not UTF-8."""
    return text if (sys.stdout.encoding or "").lower().startswith("utf") else text.translate(PLAIN)


def printable(text: str) -> str:
    """`text` on one line, without control characters: names and messages must not steer the terminal."""
    return "".join(letter if letter.isprintable() else " " if letter in "\n\t\r" else "·" for letter in text)


def _text(cell: Cell) -> str:
    if cell is None:
        return NOTHING
    return printable(cell) if isinstance(cell, str) else figure(cell) if isinstance(cell, float) else str(cell)


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
