"""Which rows an optimizer step sees, and how they become tensors.

Both are pure functions of seed and step, so the step is the whole cursor: an epoch's order is a permutation drawn from (seed, epoch).
Rows of an effective batch are sorted by length before they are cut into micro-batches, which keeps padding small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
class MicroBatch:
    """Rows padded on the right to the longest.

    Only columns from which at least one row predicts a supervised token go through the head, so logits stay small.
    """

    ids: Tensor  # [rows, length] int64
    mask: Tensor  # [rows, length] int64: 1 for tokens, 0 for padding
    columns: Tensor  # [kept] int64: positions whose logits are needed
    labels: Tensor  # [rows, kept] int64: the token after each of them, IGNORED where it is not supervised

    def to(self, device: torch.device) -> MicroBatch:
        """The same on a device."""
        ids, mask, columns, labels = (
            part.to(device, non_blocking=True) for part in (self.ids, self.mask, self.columns, self.labels)
        )
        return MicroBatch(ids, mask, columns, labels)


def row_lengths(tokens: Tokens) -> NDArray[np.int64]:
    """Tokens of every row."""
    return np.diff(tokens.starts)


def rows_of_step(rows: int, step: int, training: Training) -> NDArray[np.int64]:
    """The rows that optimizer step `step` (1 is the first) sees, in the epoch's order."""
    epoch, place = divmod(step - 1, steps_per_epoch(rows, training))
    start = place * training.effective_batch
    return _order(rows, training.seed, epoch)[start : start + training.effective_batch]


@lru_cache(maxsize=2)
def _order(rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(rows)


def supervised_tokens(tokens: Tokens, rows: Sequence[int] | NDArray[np.int64]) -> int:
    """Tokens that the loss of these rows counts; a row's first token is predicted from nothing and never counts."""
    return sum(int(tokens.supervised[tokens.starts[row] + 1 : tokens.starts[row + 1]].sum()) for row in rows)


def micro_batches(
    tokens: Tokens, rows: Sequence[int] | NDArray[np.int64], size: int, pad_id: int
) -> Iterator[MicroBatch]:
    """The rows in groups of at most `size`, longest first, so that a group that does not fit shows at once."""
    lengths = row_lengths(tokens)
    ordered = sorted(rows, key=lambda row: (-lengths[row], row))
    for start in range(0, len(ordered), size):
        yield _pad(tokens, ordered[start : start + size], pad_id)


def _pad(tokens: Tokens, rows: Sequence[int], pad_id: int) -> MicroBatch:
    length = max(int(tokens.starts[row + 1] - tokens.starts[row]) for row in rows)
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
    return MicroBatch(
        torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(columns), torch.from_numpy(labels[:, columns])
    )
