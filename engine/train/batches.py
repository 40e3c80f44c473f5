"""Which examples an optimizer step sees, and how their rows become tensors.

Both are pure functions of seed and step, so the step is the whole cursor: an epoch's order is a permutation drawn from (seed, epoch).
How rows are laid out - padded to the longest, or packed side by side - changes neither which examples a step sees nor its loss. All of it is
vectorised over tokens: a step of a small model is a few milliseconds, and this comes before each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.data.prepare import Tokens
from engine.profile import Training
from engine.steps import steps_per_epoch

Integers = NDArray[np.int64]

PACKED_TOGETHER: Final = 512  # examples; looking for room takes the square of it, and more gain next to nothing


@dataclass(frozen=True)
class Layout:
    """How rows are put together: `rows_at_once` padded rows a forward pass, or with `row_tokens` packed rows of up to so many tokens.

    `flat` lays all that a forward pass takes, up to rows_at_once x row_tokens tokens, into one row: without any padding, for attention that
    is told where documents begin. An example that is longer has a row of its own; nothing is ever cut.
    """

    rows_at_once: int
    pad_id: int
    row_tokens: int | None = None
    flat: bool = False


@dataclass(frozen=True)
class MicroBatch:
    """The rows of a few examples, padded on the right to the longest (`mask`) or packed (`positions` start over with each).

    What predicts no supervised token never goes through the head: `places` do, or where only whole columns can be chosen, `columns`.
    """

    ids: Tensor  # [rows, length] int64
    mask: Tensor | None  # [rows, length] int64: 1 for tokens, 0 for padding; None where rows are packed
    positions: Tensor | None  # [rows, length] int64: each token's place in its own row; None where rows are padded
    bounds: Tensor | None  # [documents + 1] int32: where documents begin and the last ends, in one flat row; else None
    lengths: tuple[int, ...]  # of the documents of one flat row; else empty
    places: Tensor  # [targets] int64: places in the flattened [rows, length] that predict a supervised token
    columns: Tensor  # [kept] int64: those of the length in which at least one row has such a place
    kept: Tensor  # [targets] int64: the same places in the flattened [rows, kept]
    targets: Tensor  # [targets] int64: the token after each of them
    owners: Tensor  # [targets] int64: which of `rows` each belongs to
    rows: tuple[int, ...]  # numbers of the data's rows that are in here, those of one example side by side

    def to(self, device: torch.device) -> MicroBatch:
        """The same on a device."""
        if self.ids.device.type == device.type == "cpu":
            return self

        def moved(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=True)

        return replace(
            self,
            ids=self.ids.to(device, non_blocking=True),
            mask=moved(self.mask),
            positions=moved(self.positions),
            bounds=moved(self.bounds),
            places=self.places.to(device, non_blocking=True),
            columns=self.columns.to(device, non_blocking=True),
            kept=self.kept.to(device, non_blocking=True),
            targets=self.targets.to(device, non_blocking=True),
            owners=self.owners.to(device, non_blocking=True),
        )


def row_lengths(tokens: Tokens) -> Integers:
    """Tokens of every row."""
    return np.diff(tokens.starts)


def row_lengths_of(tokens: Tokens, rows: Integers) -> Integers:
    """Tokens of some rows."""
    return tokens.starts[rows + 1] - tokens.starts[rows]


def lengths_in(tokens: Tokens, examples: Sequence[int] | Integers) -> Integers:
    """Tokens of the rows of some examples; [examples, per_example]."""
    return row_lengths_of(tokens, rows_of(tokens, examples)).reshape(-1, tokens.per_example)


def example_lengths(tokens: Tokens, examples: Sequence[int] | Integers) -> Integers:
    """Tokens of some examples, all rows of each together; [examples]."""
    total: Integers = lengths_in(tokens, examples).sum(axis=1)
    return total


def examples_of_step(examples: int, step: int, training: Training) -> Integers:
    """The examples that optimizer step `step` (1 is the first) sees, in the epoch's order."""
    epoch, place = divmod(step - 1, steps_per_epoch(examples, training))
    start = place * training.effective_batch
    return _order(examples, training.seed, epoch)[start : start + training.effective_batch]


@lru_cache(maxsize=2)
def _order(examples: int, seed: int, epoch: int) -> Integers:
    return np.random.default_rng([seed, epoch]).permutation(examples)


def rows_of(tokens: Tokens, examples: Sequence[int] | Integers) -> Integers:
    """The rows of examples, those of one example side by side."""
    first = np.asarray(examples, np.int64)[:, None] * tokens.per_example
    return (first + np.arange(tokens.per_example)).ravel()


def supervised_tokens(tokens: Tokens, rows: Sequence[int] | Integers) -> int:
    """Tokens that the loss of these rows counts; a row's first token is predicted from nothing and never counts."""
    chosen = np.asarray(rows, np.int64)
    within, source = _spread(tokens.starts[chosen], tokens.starts[chosen + 1] - tokens.starts[chosen])
    return int((tokens.supervised[source] & (within > 0)).sum())


def micro_batches(tokens: Tokens, examples: Sequence[int] | Integers, layout: Layout) -> Iterator[MicroBatch]:
    """The examples in groups that fit `layout` (one example at least), the largest first: what does not fit memory shows at once."""
    chosen = np.asarray(examples, np.int64)
    if layout.row_tokens is None:
        yield from _padded(tokens, chosen, layout)
        return
    for start in range(0, len(chosen), PACKED_TOGETHER):
        bins = _packed(tokens, chosen[start : start + PACKED_TOGETHER], layout)
        yield from (_flat(tokens, bin_, layout) for bin_ in bins) if layout.flat else _in_rows(tokens, bins, layout)


def _padded(tokens: Tokens, examples: Integers, layout: Layout) -> Iterator[MicroBatch]:
    """Examples of like length together, which keeps padding small."""
    longest = lengths_in(tokens, examples).max(axis=1, initial=0)
    ordered = examples[np.lexsort((examples, -longest))]
    size = max(1, layout.rows_at_once // tokens.per_example)
    for start in range(0, len(ordered), size):
        rows = rows_of(tokens, ordered[start : start + size])
        length = int(row_lengths_of(tokens, rows).max())
        yield _filled(tokens, rows, np.arange(len(rows)) * length, (len(rows), length), layout)


def _packed(tokens: Tokens, examples: Integers, layout: Layout) -> list[Integers]:
    """Rows by the packed row, or flat micro-batch, that they share: first-fit decreasing over examples, the fullest first.

    First-fit decreasing needs at most 11/9 of the fewest possible (Johnson, 1973); ties go by the example's number, so it is a function of
    the examples alone.
    """
    assert layout.row_tokens is not None
    capacity = layout.row_tokens * (layout.rows_at_once if layout.flat else 1)
    sizes = example_lengths(tokens, examples)
    order = np.lexsort((examples, -sizes))
    bins: list[list[int]] = []
    rooms: list[int] = []
    for example, size in zip(examples[order].tolist(), sizes[order].tolist(), strict=True):
        place = next((number for number, room in enumerate(rooms) if size <= room), None)
        if place is None:
            bins.append([example])
            rooms.append(capacity - size)  # below 0 where an example is longer than a row: nothing joins it
        else:
            bins[place].append(example)
            rooms[place] -= size
    fullest = sorted(range(len(bins)), key=lambda number: rooms[number])
    return [rows_of(tokens, bins[number]) for number in fullest]


def _flat(tokens: Tokens, rows: Integers, layout: Layout) -> MicroBatch:
    """One row without padding that says where its documents begin."""
    lengths = row_lengths_of(tokens, rows)
    bounds = np.concatenate(([0], np.cumsum(lengths)))
    found = _filled(tokens, rows, bounds[:-1], (1, int(bounds[-1])), layout)
    return replace(found, bounds=torch.from_numpy(bounds.astype(np.int32)), lengths=tuple(lengths.tolist()))


def _in_rows(tokens: Tokens, bins: list[Integers], layout: Layout) -> Iterator[MicroBatch]:
    """Packed rows, as many at once as need no more room than `rows_at_once` of `row_tokens`."""
    assert layout.row_tokens is not None
    fills = [int(row_lengths_of(tokens, rows).sum()) for rows in bins]
    start = 0
    while start < len(bins):
        length = fills[start]
        count = max(1, layout.rows_at_once * layout.row_tokens // max(length, layout.row_tokens))
        group = bins[start : start + count]
        start += count
        begins = [number * length + _begins(row_lengths_of(tokens, rows)) for number, rows in enumerate(group)]
        yield _filled(tokens, np.concatenate(group), np.concatenate(begins), (len(group), length), layout)


def _filled(tokens: Tokens, rows: Integers, begins: Integers, shape: tuple[int, int], layout: Layout) -> MicroBatch:
    """The micro-batch of `shape` with each of `rows` at its place in the flattened tensor."""
    lengths = row_lengths_of(tokens, rows)
    within, source = _spread(tokens.starts[rows], lengths)
    place = np.repeat(begins, lengths) + within
    ids = np.full(shape, layout.pad_id, np.int64)
    ids.ravel()[place] = tokens.ids[source]
    predicted = np.flatnonzero(tokens.supervised[source] & (within > 0))
    places = place[predicted] - 1
    in_row = places % shape[1]
    # Nothing supervised: one ignored column keeps shapes whole.
    columns = np.unique(in_row) if len(places) else np.zeros(1, np.int64)
    mask = positions = None
    if layout.row_tokens is None:
        mask = np.zeros(shape, np.int64)
        mask.ravel()[place] = 1
    else:  # what is left of a row is a document of its own: it counts from 0 too
        positions = np.arange(shape[1]) - np.bincount(place // shape[1], minlength=shape[0])[:, None]
        positions.ravel()[place] = within
    return MicroBatch(
        ids=torch.from_numpy(ids),
        mask=None if mask is None else torch.from_numpy(mask),
        positions=None if positions is None else torch.from_numpy(positions),
        bounds=None,
        lengths=(),
        places=torch.from_numpy(places),
        columns=torch.from_numpy(columns),
        kept=torch.from_numpy(places // shape[1] * len(columns) + np.searchsorted(columns, in_row)),
        targets=torch.from_numpy(ids.ravel()[place[predicted]]),
        owners=torch.from_numpy(np.repeat(np.arange(len(rows)), lengths)[predicted]),
        rows=tuple(rows.tolist()),
    )


def _begins(lengths: Integers) -> Integers:
    return np.cumsum(lengths) - lengths


def _spread(starts: Integers, lengths: Integers) -> tuple[Integers, Integers]:
    """For every token of spans: its number within the span, and where it stands."""
    within = np.arange(int(lengths.sum())) - np.repeat(_begins(lengths), lengths)
    return within, np.repeat(starts, lengths) + within
