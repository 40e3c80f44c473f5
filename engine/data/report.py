"""The data report: what is in the data and what is wrong with it, as figures that a screen, a script and a person can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.data.columns import ColumnFacts
from engine.data.examples import CLASSES
from engine.data.finding import Finding
from engine.data.mapped import MappedSource
from engine.data.scan import Scan, Unit
from engine.data.sources import combined_fingerprint

BINS: Final = 16


@dataclass(frozen=True)
class Lengths:
    """Lengths in `unit` of each row's longest sample, before cutting. `edges` has one entry more than `counts`; `over` rows exceed `limit`."""

    unit: Unit
    minimum: int
    median: int
    p95: int
    p99: int
    maximum: int
    total: int
    supervised: int
    limit: int | None
    over: int
    edges: tuple[int, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class DuplicateCounts:
    """Rows that repeat an earlier one exactly, or but for case and blanks; rows whose question has several answers."""

    exact: int
    normalised: int
    conflicting: int


@dataclass(frozen=True)
class DataReport:
    """What `workbench data --json` prints. `shape` is messages, instruction, instruction+input, chosen+rejected or text, of
    each source where they differ; `labels` is empty for free text."""

    rows: int
    fingerprint: str
    shape: str
    columns: tuple[ColumnFacts, ...]
    lengths: Lengths
    labels: Mapping[str, int]
    findings: tuple[Finding, ...]
    duplicates: DuplicateCounts


def summarise(sources: Sequence[MappedSource], found: Scan) -> DataReport:
    """The report of a scan."""
    shapes = dict.fromkeys(_shape(source.mappings) for source in sources)
    labels = dict(sorted(found.labels.items(), key=lambda pair: -pair[1])) if len(found.labels) <= CLASSES else {}
    same = found.duplicates
    return DataReport(
        rows=sum(map(len, sources)),
        fingerprint=combined_fingerprint([source.source for source in sources]),
        shape=", ".join(shapes),
        columns=found.columns,
        lengths=_lengths(found),
        labels=labels,
        findings=found.findings,
        duplicates=DuplicateCounts(len(same.exact), len(same.normalised), len(same.conflicting)),
    )


def _shape(mappings: Mapping[str, str]) -> str:
    if "text" in mappings:
        return "text"
    asked = "messages" if "messages" in mappings else "instruction+input" if "input" in mappings else "instruction"
    if "chosen" in mappings:
        return "chosen+rejected" if asked == "instruction" else f"{asked}+chosen+rejected"
    return f"{asked}+tools" if "tools" in mappings else asked


def _lengths(found: Scan) -> Lengths:
    lengths = found.lengths[found.lengths > 0]  # broken rows have none
    if not len(lengths):
        lengths = found.lengths
    edges, counts = histogram(lengths, found.limit)
    median, p95, p99 = np.percentile(lengths, (50, 95, 99), method="higher").astype(int).tolist()
    return Lengths(
        unit=found.unit,
        minimum=int(lengths.min()),
        median=median,
        p95=p95,
        p99=p99,
        maximum=int(lengths.max()),
        total=int(lengths.sum(dtype=np.int64)),
        supervised=int(found.supervised.sum(dtype=np.int64)),
        limit=found.limit,
        over=int((lengths > found.limit).sum()) if found.limit else 0,
        edges=edges,
        counts=counts,
    )


def histogram(lengths: NDArray[np.int32], limit: int | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Edges and counts of bins of one round width from 0; a limit is an edge where bins can be made so."""
    longest = max(int(lengths.max(initial=0)), 1)
    width = _round_width(longest / BINS)
    below_limit = round(limit / width) if limit and limit < longest else 0
    if limit and below_limit:
        width = -(-limit // below_limit)
    edges = np.arange(0, longest + width, width)
    counts, _ = np.histogram(lengths, bins=np.append(edges, edges[-1] + width))
    last = len(counts) - 1 if not counts[-1] else len(counts)
    return tuple(int(edge) for edge in [*edges, edges[-1] + width][: last + 1]), tuple(
        int(count) for count in counts[:last]
    )


def _round_width(least: float) -> int:
    """The smallest of 1, 2, 4, 5, 8 times a power of ten or two that is at least this."""
    power = 1
    while True:
        for factor in (1, 2, 4, 5, 8):
            if factor * power >= least:
                return factor * power
        power *= 10
