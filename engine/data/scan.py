"""One pass over data that looks at everything: lengths, labels, duplicates and what is wrong, row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from engine.data.check import pad_is_eos, row_findings, token_findings
from engine.data.columns import ColumnFacts, ColumnWatch
from engine.data.duplicates import DuplicateFinder, DuplicateRows
from engine.data.examples import CLASSES, Example
from engine.data.finding import Finding, Tally
from engine.data.mapped import MappedSource
from engine.data.question import normalised
from engine.data.rendered import Sampler
from engine.errors import Problem

IMBALANCE: Final = 3  # the most frequent label is worth a word when it is this many times the rarest
LENGTH_BIAS: Final = 0.65  # share of pairs from which a longer chosen response is worth a word
FEW_PAIRS: Final = 10  # of which no share is told
TELL_EVERY: Final = 50  # rows between two reports of progress

Unit = Literal["tokens", "characters"]


@dataclass(frozen=True)
class Measured:
    """Lengths as they are found, so that a screen can show those of the rows that were looked at already; -1 where none was."""

    lengths: NDArray[np.int32]  # [rows]
    supervised: NDArray[np.int32]  # [rows]

    @classmethod
    def of(cls, rows: int) -> Measured:
        """Nothing measured yet."""
        return cls(np.full(rows, -1, np.int32), np.full(rows, -1, np.int32))


@dataclass(frozen=True)
class Scan:
    """What one pass found. `lengths` and `supervised` have an entry a row, 0 where the row is broken; `unit` says of what.

    `lengths` are of a row's longest sample, before cutting, `supervised` of all its samples; `limit` is the most that an example may have, None without a model.
    """

    unit: Unit
    lengths: NDArray[np.int32]  # [rows]
    supervised: NDArray[np.int32]  # [rows], 0 without a model
    limit: int | None
    labels: Mapping[str, int]
    columns: tuple[ColumnFacts, ...]
    duplicates: DuplicateRows
    findings: tuple[Finding, ...]
    rows_of: Mapping[str, NDArray[np.int64]]  # finding to all its rows, from 1, where they are all known


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """The scan was cancelled."""


def scan(
    sources: Sequence[MappedSource],
    renderer: Sampler | None,
    limit: int | None = None,
    *,
    measured: Measured | None = None,
    progress: Callable[[int, int], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Scan:
    """Look at all rows; `renderer` renders at full length, `limit` is what rows are then held against.

    `measured`, of as many rows, is filled while the scan goes on. Without a renderer lengths are in characters.
    `progress` gets rows done and all rows; `stopped` is asked as often.

    Raises:
        Stopped: `stopped` said so.
    """
    total = sum(map(len, sources))
    looking = _Looking(renderer, limit, measured or Measured.of(total))
    row = 0
    for source in sources:
        watch = ColumnWatch(source.mappings)
        if source.source.has_bom:
            looking.tally.add("bom", None)
        for number in range(len(source)):
            if row % TELL_EVERY == 0:
                if stopped():
                    raise Stopped
                if progress:
                    progress(row, total)
            looking.look(source, number, row, watch)
            row += 1
        looking.columns += watch.facts()
        for name, count, rows, detail in watch.findings():
            looking.tally.add_count(name, count, rows, detail)
    if progress:
        progress(total, total)
    return looking.result()


class _Looking:
    """What a scan has gathered."""

    def __init__(self, renderer: Sampler | None, limit: int | None, measured: Measured) -> None:
        self.renderer = renderer
        self.fitted = renderer.within(limit) if renderer and limit else None
        self.limit = limit
        self.lengths = measured.lengths
        self.supervised = measured.supervised
        self.labels: Counter[str] = Counter()
        self.label_rows: dict[str, int] = {}
        self.unlabelled: list[int] = []
        self.longer_chosen: list[int] = []
        self.pairs = 0
        self.duplicates = DuplicateFinder()
        self.columns: tuple[ColumnFacts, ...] = ()
        self.tally = Tally()

    def look(self, source: MappedSource, number: int, row: int, watch: ColumnWatch) -> None:
        """Look at one row; `row` counts from 0 over all sources."""
        self.lengths[row] = self.supervised[row] = 0
        try:
            values = source.source.row(number)
        except Problem as problem:
            self.tally.add("broken_row", row + 1, problem.what)
            return
        watch.add(values.values, row + 1)
        try:
            example = source.mapped(values)
        except Problem as problem:
            self.tally.add("bad_conversation", row + 1, problem.what)
            return
        found = dict.fromkeys(row_findings(example))
        if self.renderer is None:
            self.lengths[row] = sum(map(len, example.texts))
        else:
            found.update(dict.fromkeys(self._look_at_tokens(example, row, self.renderer)))
        for name in found:
            self.tally.add(name, row + 1)
        self.duplicates.add(example, row + 1)
        if example.label is None and "label" in source.mappings:
            self.unlabelled.append(row + 1)
        elif example.label is not None:
            self.labels[example.label] += 1
            self.label_rows.setdefault(example.label, row + 1)

    def _look_at_tokens(self, example: Example, row: int, renderer: Sampler) -> list[str]:
        try:
            samples = renderer.samples(example)
            self.lengths[row] = longest = max(len(rendered.ids) for rendered in samples)
            if self.fitted and self.limit and longest > self.limit:
                samples = self.fitted.samples(example)
        except Problem as problem:
            self.tally.add("template_refuses" if problem.code == "template" else "too_long", row + 1, problem.why)
            return []
        self.supervised[row] = sum(sum(rendered.supervised) for rendered in samples)
        if example.rejected and len(samples[0].ids) > len(samples[1].ids):
            self.longer_chosen.append(row + 1)
        self.pairs += bool(example.rejected)
        return list(token_findings(samples, example, renderer))

    def result(self) -> Scan:
        """Add what only all rows together show."""
        same = self.duplicates.found()
        self.tally.add_all("exact_duplicates", same.exact)
        self.tally.add_all("normalised_duplicates", same.normalised)
        self.tally.add_all("conflicting_answers", same.conflicting)
        self._judge_labels()
        if self.renderer and pad_is_eos(self.renderer.tokenizer):
            self.tally.add("pad_is_eos", None)
        if self.pairs >= FEW_PAIRS and len(self.longer_chosen) > LENGTH_BIAS * self.pairs:
            share = f"{len(self.longer_chosen) / self.pairs:.0%} of the pairs"
            self.tally.add_count("length_bias", len(self.longer_chosen), self.longer_chosen, share)
        self.tally.add_all("length_outliers", (np.flatnonzero(outliers(self.lengths)) + 1).tolist())
        unit: Unit = "tokens" if self.renderer else "characters"
        findings = self.tally.findings()
        return Scan(
            unit,
            self.lengths,
            self.supervised,
            self.limit,
            self.labels,
            self.columns,
            same,
            findings,
            self.tally.rows(),
        )

    def _judge_labels(self) -> None:
        if not self.labels or len(self.labels) > CLASSES:
            return
        self.tally.add_all("label_missing", self.unlabelled)
        for label, other in label_synonyms(self.labels).items():
            self.tally.add_count(
                "label_synonyms", self.labels[label], (self.label_rows[label],), f"{label!r} for {other!r}"
            )
        (most, count), (rarest, few) = self.labels.most_common()[0], self.labels.most_common()[-1]
        if len(self.labels) > 1 and count >= IMBALANCE * few:
            total = self.labels.total()
            self.tally.add_count(
                "label_imbalance", count, (), f"{most} {count / total:.1%}, {rarest} {few / total:.1%}"
            )


def label_synonyms(labels: Mapping[str, int]) -> dict[str, str]:
    """Labels that differ from a more frequent one only in case, blanks or Unicode form, each with that one."""
    usual: dict[str, str] = {}
    found: dict[str, str] = {}
    for label in sorted(labels, key=lambda label: (-labels[label], label)):
        other = usual.setdefault(normalised(label).strip(" ."), label)
        if other != label:
            found[label] = other
    return found


def outliers(lengths: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Lengths beyond Tukey's outer fence (third quartile + 3 interquartile ranges; Exploratory Data Analysis, 1977) and twice the median."""
    if len(lengths) < 8:
        return np.zeros(len(lengths), np.bool_)
    low, middle, high = np.percentile(lengths, (25, 50, 75))
    far: NDArray[np.bool_] = (lengths > high + 3 * (high - low)) & (lengths > 2 * middle)
    return far
