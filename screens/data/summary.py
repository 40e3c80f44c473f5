"""What is said above the rows: what the data are, what was found in them, and how long their examples are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from textual.content import Content

from engine.data.finding import Finding
from engine.data.opened import Looked, Opened
from engine.data.report import Lengths
from screens.data.visible import in_a_line

MARKS: Final = {"error": ("✗", "$text-error"), "warning": ("!", "$text-warning"), "info": ("·", "$foreground-muted")}
BARS: Final = " ▁▂▃▄▅▆▇█"
MUTED: Final = "$foreground-muted"
LABELLED: Final = 7  # columns that an edge and its number take at least


def title(opened: Opened, looked: Looked | None) -> Content:
    """File, rows, whose eyes they are seen with, and the parts they are divided into."""
    rows = f"{len(opened):,} row{'s' if len(opened) != 1 else ''}"
    parts: list[tuple[str, str]] = [(opened.name, "bold $text-accent"), (f"  {rows}", "")]
    settings = opened.settings
    if opened.renderer is not None:
        base = Path(settings.model.base).name
        parts += [("  as seen by ", MUTED), (f"{base} · {Path(settings.template.name).name}", "")]
    if looked and looked.parts:
        train, validation, test = looked.parts
        parts += [("  split ", MUTED), (f"{train:,}/{validation:,}/{test:,}", "")]
        if len(looked.mixture) > 1:
            shares = ", ".join(f"{part.source} {part.share:.0%}" for part in looked.mixture)
            parts += [("  an epoch ", MUTED), (in_a_line(shares), "")]
    if opened.renderer is None:
        parts += [("  in characters: ", MUTED), ("b", "bold $text-accent"), (" chooses a base model", MUTED)]
    return Content.assemble(*parts)


def findings(looked: Looked, lines: int, width: int) -> Content:
    """The worst findings, one a line, and how many more there are; or that there are none."""
    found = looked.findings
    if not found:
        return Content.assemble(("✓ ", "$text-success"), "nothing wrong, nothing there twice")
    shown = [_finding(finding).truncate(width, ellipsis=True) for finding in found[:lines]]
    if len(found) > lines:
        more = f"  {len(found) - lines} more: f"
        shown[-1] = _finding(found[lines - 1]).truncate(width - len(more), ellipsis=True) + Content.styled(more, MUTED)
    return Content("\n").join(shown)


def _finding(finding: Finding) -> Content:
    mark, style = MARKS[finding.severity]
    return Content.assemble((f"{mark} ", style), in_a_line(finding.sentence))


def whole_finding(finding: Finding) -> Content:
    """A finding with the rows it is true of."""
    rows = ", ".join(f"{row:,}" for row in finding.rows) + (", ..." if finding.count > len(finding.rows) else "")
    parts: list[tuple[str, str]] = [(f"\nrows  {rows}\n\n", ""), ("enter", "bold $text-accent"), (" shows them", MUTED)]
    return _finding(finding) + Content.assemble(*parts if finding.rows else [])


def histogram(lengths: Lengths, width: int) -> Content:
    """Three lines: edges, bars with the limit as a line, and the figures."""
    counts, edges = lengths.counts, lengths.edges
    wide = max(1, min(6, (width - 8) // len(counts)))
    bars = _bars(counts, wide)
    limit_at = _place(lengths.limit, edges, wide) if lengths.limit and lengths.over else None
    before, after = (bars, "") if limit_at is None else (bars[:limit_at], bars[limit_at:])
    chart = Content.assemble(
        (before, "$text-accent"), ("|" if limit_at is not None else "", "bold $text-warning"), (after, "$text-warning")
    )
    over = f"   over {lengths.limit:,}: {lengths.over:,}" if lengths.limit and lengths.over else ""
    figures = f"median {lengths.median:,}   p95 {lengths.p95:,}   p99 {lengths.p99:,}   max {lengths.maximum:,}" + (
        f"   limit {lengths.limit:,}" if lengths.limit and not lengths.over else ""
    )
    return Content("\n").join(
        [
            Content.styled(
                f"{'tokens' if lengths.unit == 'tokens' else 'chars':<7}{_edges(edges, wide, width - 7)}", MUTED
            ),
            Content(" " * 7) + chart,
            Content.assemble((" " * 7 + figures, ""), (over, "$text-warning")),
        ]
    )


def _bars(counts: Sequence[int], wide: int) -> str:
    """A bar a bin; a count that is not nothing leaves a sliver."""
    most = max(counts)
    levels = [0 if not count else max(1, round(count / most * 8)) for count in counts]
    return "".join(BARS[level] * wide for level in levels)


def _edges(edges: Sequence[int], wide: int, room: int) -> str:
    """The numbers of as many edges as have room, each above its edge."""
    every = -(-LABELLED // wide)
    line = ""
    for place in range(0, len(edges), every):
        label = f"{edges[place]:,}"
        if place * wide + len(label) <= room:
            line = line.ljust(place * wide) + label
    return line


def _place(limit: int, edges: Sequence[int], wide: int) -> int:
    return min(round((limit - edges[0]) / (edges[1] - edges[0]) * wide), (len(edges) - 1) * wide)
