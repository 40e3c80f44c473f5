"""A comparison as a page to send on: Markdown, or HTML that needs no other file. Whatever models wrote is escaped."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from engine import atomic
from engine.errors import Problem
from engine.evaluate.behind import Behind, behind
from engine.evaluate.compare import Comparison, ComparisonRow
from engine.evaluate.measures import METRICS
from engine.evaluate.wording import cells, change
from engine.ledger import Ledger

SHOWN: Final = 10  # lost answers of a row
LONGEST: Final = 600  # characters of one answer
TITLES: Final = (
    "verdict",
    "suite and metric",
    "run",
    "against",
    "its figure",
    "run's figure",
    "difference, 95 %",
    "p",
    "n",
    "sees from",
)
READING: Final = (
    "Differences are paired, question by question; the interval is at 95 %, p is adjusted for the number of rows (Holm). "
    "“Sees from” is the smallest true difference that this many questions would show with 80 % power. "
    "“Kept” means that at least 95 % of the right answers are kept for sure. Shares are in points of 100."
)
STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; background: #fff }
table { border-collapse: collapse; width: 100% } th, td { padding: .3rem .6rem; text-align: left; border-bottom: 1px solid #d8dde3 }
td.figure, th.figure { text-align: right; font-variant-numeric: tabular-nums } tr.detail td { color: #5b6570 }
.better { color: #0f6b36 } .worse { color: #a8201a } dl { border-left: 3px solid #d8dde3; padding-left: 1rem } dt { font-weight: 600 }
dd { margin: 0 0 .4rem; white-space: pre-wrap; overflow-wrap: anywhere }
@media (prefers-color-scheme: dark) { body { color: #e6e9ec; background: #14171a } .better { color: #5fd38d } .worse { color: #ff8a80 } }
"""


def write(ledger: Ledger, comparison: Comparison, path: Path) -> None:
    """Write the report at `path`; its ending says which kind.

    Raises:
        Problem: another ending than .md, .html or .htm, or the file cannot be written.
    """
    kinds = {".md": markdown, ".html": html, ".htm": html}
    kind = kinds.get(path.suffix.lower())
    if kind is None:
        raise Problem(f"{path}: a report is .md or .html", f"Found {path.suffix or 'no ending'}.", code="report")
    atomic.write_text(path, kind(ledger, comparison))


def markdown(ledger: Ledger, comparison: Comparison) -> str:
    """The report as Markdown."""
    parts = [f"# {_plain(comparison.headline)}", "", *(f"- {_plain(line)}" for line in comparison.lines), ""]
    if comparison.rows:
        parts += [f"| {' | '.join(TITLES)} |", f"|{'---|' * len(TITLES)}"]
        parts += [f"| {' | '.join(_plain(cell) for cell in cells(row))} |" for row in _ordered(comparison.rows)]
    parts += ["", READING, ""]
    for missing in comparison.missing:
        told = f" `{missing.command}`" if missing.command else ""
        parts.append(f"- Not compared: {_plain(missing.what)}. {_plain(missing.why)}{told}")
    for row, lost, examples in _lost(ledger, comparison.rows):
        parts += ["", f"## {_plain(_heading(row))}: {len(examples)} of {lost} lost answers"]
        for example in examples:
            parts += ["", f"**{_plain(example.prompt)}**", ""]
            parts += [f"- {name}: {_plain(text)}" for name, text in _sides(row, example)]
    return "\n".join([*parts, "", _made(), ""])


def html(ledger: Ledger, comparison: Comparison) -> str:
    """The report as one HTML page: no script, nothing loaded from elsewhere."""
    lines = "".join(f"<li>{escape(line)}</li>" for line in comparison.lines)
    missing = "".join(
        f"<li>Not compared: {escape(one.what)}. {escape(one.why)} <code>{escape(one.command)}</code></li>"
        for one in comparison.missing
    )
    figures = range(4, len(TITLES))
    titles = "".join(
        f"<th{' class=figure' if place in figures else ''}>{title}</th>" for place, title in enumerate(TITLES)
    )
    rows = "".join(_html_row(row) for row in _ordered(comparison.rows))
    table = f"<table><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table>" if rows else ""
    lost = "".join(
        f"<h2>{escape(_heading(row))}: {len(examples)} of {many} lost answers</h2>"
        + "".join(_html_example(row, example) for example in examples)
        for row, many, examples in _lost(ledger, comparison.rows)
    )
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{escape(comparison.headline)}</title>'
        f"<style>{STYLE}</style><h1>{escape(comparison.headline)}</h1><ul>{lines}{missing}</ul>"
        f"{_forest(comparison.rows)}{table}<p>{escape(READING)}</p>{lost}<footer>{escape(_made())}</footer></html>\n"
    )


def _ordered(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """Rows that carry the verdict first."""
    return sorted(rows, key=lambda row: not row.main)


def _heading(row: ComparisonRow) -> str:
    return f"{row.title}, {row.run} against {row.against}"


def _lost(ledger: Ledger, rows: Sequence[ComparisonRow]) -> list[tuple[ComparisonRow, int, list[Behind]]]:
    """The first lost answers of every row that carries the verdict, and how many there are."""
    found: list[tuple[ComparisonRow, int, list[Behind]]] = []
    for row in rows:
        lost = [one for one in behind(ledger, row) if one.outcome == "lost"] if row.main else []
        if lost:
            found.append((row, len(lost), lost[:SHOWN]))
    return found


def _sides(row: ComparisonRow, example: Behind) -> list[tuple[str, str]]:
    sides = [(row.against, f"{example.base.read} — {_short(example.base.text)}")]
    sides.append((row.run, f"{example.tuned.read} — {_short(example.tuned.text)}"))
    return [*sides, ("right", example.gold)] if example.gold else sides


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + " …"


def _plain(text: str) -> str:
    """Text that Markdown leaves as it is, on one line, without tags: models write whatever they like."""
    escaped = re.sub(r"([\\`*_{}\[\]#|~!])", r"\\\1", escape(" ".join(text.split()), quote=False))
    return re.sub(r"^([-+>]|\d+\.)", r"\\\1", escaped)


def _html_row(row: ComparisonRow) -> str:
    verdict, *others = cells(row)
    shown = [f'<td class="{escape(verdict)}">{escape(verdict)}</td>']
    shown += [f"<td>{escape(cell)}</td>" for cell in others[:3]]
    shown += [f'<td class="figure">{escape(cell)}</td>' for cell in others[3:]]
    return (
        f'<tr{"" if row.main else " class=detail"} title="{escape(METRICS[row.metric].meaning)}">{"".join(shown)}</tr>'
    )


def _html_example(row: ComparisonRow, example: Behind) -> str:
    sides = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in _sides(row, example))
    return f"<dl><dt>question</dt><dd>{escape(example.prompt)}</dd>{sides}</dl>"


def _forest(rows: Sequence[ComparisonRow]) -> str:
    """The differences of the main rows as an SVG forest plot, each interval a line and its difference a dot."""
    drawn = [row for row in rows if row.main and math.isfinite(row.difference + row.low + row.high)]
    if not drawn:
        return ""
    most = max(0.05, *(abs(end) for row in drawn for end in (row.low, row.high)))
    scale = 250 / most
    height = 30 * len(drawn) + 40
    parts = [f'<line x1="550" x2="550" y1="10" y2="{height - 25}" stroke="currentColor" stroke-dasharray="3 3"/>']
    for place, row in enumerate(drawn):
        y = 30 * place + 25
        low, middle, high = (550 + scale * end for end in (row.low, row.difference, row.high))
        parts.append(f'<text x="290" y="{y + 5}" text-anchor="end">{escape(row.title)} · {escape(row.run)}</text>')
        parts.append(
            f'<g class="{escape(row.verdict)}" fill="currentColor" stroke="currentColor">'
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" stroke-width="2"/>'
            f'<circle cx="{middle:.1f}" cy="{y}" r="5"/></g>'
        )
    for end in (-most, 0.0, most):
        parts.append(
            f'<text x="{550 + scale * end:.1f}" y="{height - 5}" text-anchor="middle">{change("accuracy", end)}</text>'
        )
    return (
        f'<svg viewBox="0 0 820 {height}" role="img" aria-label="differences in points with 95 % intervals" '
        f'fill="currentColor" font-size="14">{"".join(parts)}</svg>'
    )


def _made() -> str:
    from engine import __version__

    return f"Workbench {__version__}, {time.strftime('%Y-%m-%d %H:%M')}"
