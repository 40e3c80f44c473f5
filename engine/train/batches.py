"""Which examples an optimizer step sees, and how their rows become tensors.

Both are pure functions of seed and step, so the step is the whole cursor: an epoch's order is a permutation drawn from (seed, epoch).
Rows of an effective batch are sorted by length before they are cut into micro-batches, which keeps padding small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.data.prepare import Tokens
from engine.profile import Training
from engine.steps import steps_per_epoch

IGNORED = -100  # torch's mark for a label that the loss skips


@dataclass(frozen=True)
class Layout:
    """How rows are put together: `rows_at_once` padded rows a forward pass, or packed rows of up to `row_tokens` tokens."""

    rows_at_once: int
    pad_id: int
    row_tokens: int | None = None


@dataclass(frozen=True)
class MicroBatch:
    """The rows of a few examples, padded on the right to the longest (`mask`) or packed (`positions` start over with each).

    Only columns from which at least one row predicts a supervised token go through the head, so logits stay small.
    """

    ids: Tensor  # [rows, length] int64
    mask: Tensor | None  # [rows, length] int64: 1 for tokens, 0 for padding; None where rows are packed
    positions: Tensor | None  # [rows, length] int64: each token's place in its own row; None where rows are padded
    columns: Tensor  # [kept] int64: positions whose logits are needed
    kept: Tensor  # [targets] int64: places in the flattened [rows, kept] that predict a supervised token
    targets: Tensor  # [targets] int64: the token after each of them
    owners: Tensor  # [targets] int64: which of `rows` each belongs to
    rows: tuple[int, ...]  # numbers of the data's rows that are in here

    def to(self, device: torch.device) -> MicroBatch:
        """The same on a device."""
        return replace(
            self,
            ids=self.ids.to(device, non_blocking=True),
            mask=None if self.mask is None else self.mask.to(device, non_blocking=True),
            positions=None if self.positions is None else self.positions.to(device, non_blocking=True),
            columns=self.columns.to(device, non_blocking=True),
            kept=self.kept.to(device, non_blocking=True),
            targets=self.targets.to(device, non_blocking=True),
            owners=self.owners.to(device, non_blocking=True),
        )


def row_lengths(tokens: Tokens) -> NDArray[np.int64]:
    """Tokens of every row."""
    return np.diff(tokens.starts)


def examples_of_step(examples: int, step: int, training: Training) -> NDArray[np.int64]:
    """The examples that optimizer step `step` (1 is the first) sees, in the epoch's order."""
    epoch, place = divmod(step - 1, steps_per_epoch(examples, training))
    start = place * training.effective_batch
    return _order(examples, training.seed, epoch)[start : start + training.effective_batch]


@lru_cache(maxsize=2)
def _order(examples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(examples)


def rows_of(tokens: Tokens, examples: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of examples, those of one example side by side."""
    first = np.asarray(examples, np.int64)[:, None] * tokens.per_example
    return (first + np.arange(tokens.per_example)).ravel()


def supervised_tokens(tokens: Tokens, rows: Sequence[int] | NDArray[np.int64]) -> int:
    """Tokens that the loss of these rows counts; a row's first token is predicted from nothing and never counts."""
    return sum(int(tokens.supervised[tokens.starts[row] + 1 : tokens.starts[row + 1]].sum()) for row in rows)


def micro_batches(tokens: Tokens, examples: Sequence[int] | NDArray[np.int64], layout: Layout) -> Iterator[MicroBatch]:
    """The examples in groups of at most `rows_at_once` rows (one example at least), longest first: what does not fit shows at once."""
    lengths = row_lengths(tokens)
    longest = {int(example): max(lengths[rows_of(tokens, [example])]) for example in examples}
    ordered = sorted(longest, key=lambda example: (-longest[example], example))
    size = max(1, layout.rows_at_once // tokens.per_example)
    for start in range(0, len(ordered), size):
        yield _pad(tokens, rows_of(tokens, ordered[start : start + size]), layout.pad_id)


def _pad(tokens: Tokens, rows: NDArray[np.int64], pad_id: int) -> MicroBatch:
    length = int(row_lengths(tokens)[rows].max())
    ids = np.full((len(rows), length), pad_id, np.int64)
    mask = np.zeros((len(rows), length), np.int64)
    labels = np.full((len(rows), length), IGNORED, np.int64)
    for place, row in enumerate(rows):
        inside = slice(int(tokens.starts[row]), int(tokens.starts[row + 1]))
        count = inside.stop - inside.start
        ids[place, :count] = tokens.ids[inside]
        mask[place, :count] = 1
        after = np.where(tokens.supervised[inside], tokens.ids[inside], IGNORED)[1:]
        labels[place, : count - 1] = after
    columns = np.flatnonzero((labels != IGNORED).any(axis=0))
    if not columns.size:  # nothing supervised: one ignored column keeps shapes whole
        columns = np.zeros(1, np.int64)
    labels = labels[:, columns]
    owners, _ = np.nonzero(labels != IGNORED)
    kept = np.flatnonzero(labels != IGNORED)
    return MicroBatch(
        ids=torch.from_numpy(ids),
        mask=torch.from_numpy(mask),
        positions=None,
        columns=torch.from_numpy(columns),
        kept=torch.from_numpy(kept),
        targets=torch.from_numpy(labels.ravel()[kept]),
        owners=torch.from_numpy(owners),
        rows=tuple(rows.tolist()),
    )
