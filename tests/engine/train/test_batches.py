"""Which rows a step sees and what the tensors hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.data.prepare import Tokens
from engine.profile import Training
from engine.steps import total_steps
from engine.train import schedule
from engine.train.batches import Layout, MicroBatch, examples_of_step, micro_batches, row_lengths, supervised_tokens


def ragged(lengths: list[int], seed: int = 0) -> Tokens:
    """Rows of these lengths; the later part of each is supervised."""
    draw = np.random.default_rng(seed)
    ids = draw.integers(5, 400, sum(lengths)).astype(np.int32)
    supervised = np.concatenate([np.arange(length) >= max(1, length // 2) for length in lengths])
    return Tokens(
        ids, supervised, np.concatenate([[0], np.cumsum(lengths)]), tuple(f"row-{n}" for n in range(len(lengths)))
    )


@given(rows=st.integers(1, 50), effective=st.integers(1, 12), epochs=st.integers(1, 3), seed=st.integers(0, 99))
def test_an_epoch_sees_every_row_once_and_each_epoch_in_another_order(
    rows: int, effective: int, epochs: int, seed: int
) -> None:
    training = Training(effective_batch=effective, micro_batch=1, epochs=epochs, seed=seed)
    steps = total_steps(rows, training)
    seen = [examples_of_step(rows, step, training).tolist() for step in range(1, steps + 1)]
    per_epoch = steps // epochs
    orders = [[row for rows in seen[start : start + per_epoch] for row in rows] for start in range(0, steps, per_epoch)]
    assert all(sorted(order) == list(range(rows)) for order in orders)
    assert rows < 12 or epochs == 1 or orders[0] != orders[1]
    assert seen == [examples_of_step(rows, step, training).tolist() for step in range(1, steps + 1)]


PADS = st.integers(0, 30)  # some are tokens of the rows: padding with the end of turn must not hide it
LAYOUTS = st.one_of(
    st.builds(Layout, st.integers(1, 4), PADS),
    st.builds(Layout, st.integers(1, 4), PADS, st.integers(16, 64), st.booleans()),
)


@given(
    lengths=st.lists(st.integers(1, 40), min_size=2, max_size=12), layout=LAYOUTS, per_example=st.sampled_from([1, 2])
)
def test_micro_batches_hold_every_supervised_token_once(lengths: list[int], layout: Layout, per_example: int) -> None:
    tokens = replace(ragged(lengths[: len(lengths) // per_example * per_example]), per_example=per_example)
    rows = list(range(len(tokens)))
    found = list(micro_batches(tokens, range(tokens.examples), layout))
    targets = np.concatenate([batch.targets.numpy() for batch in found])
    expected = np.concatenate(
        [tokens.ids[start + 1 : end][tokens.supervised[start + 1 : end]] for start, end in _spans(tokens)]
    )
    assert sorted(targets.tolist()) == sorted(expected.tolist())
    assert supervised_tokens(tokens, rows) == len(expected)
    assert sorted(row for batch in found for row in batch.rows) == rows
    for batch in found:
        _whole(batch, tokens)
        if layout.row_tokens is None:
            assert len(batch.rows) <= max(layout.rows_at_once, per_example)


def _whole(batch: MicroBatch, tokens: Tokens) -> None:
    """A target is the token after its place; each row owns its own targets, and those of one example stand side by side."""
    flat = batch.ids.flatten()
    length = batch.ids.shape[1]
    assert torch.equal(flat[batch.places + 1], batch.targets)
    kept = batch.kept // len(batch.columns) * length + batch.columns[batch.kept % len(batch.columns)]
    assert torch.equal(kept, batch.places)
    if batch.positions is not None:  # a place and the one after it are of one document
        positions = batch.positions.flatten()
        assert torch.equal(positions[batch.places + 1], positions[batch.places] + 1)
    for owner, row in enumerate(batch.rows):
        inside = slice(int(tokens.starts[row]) + 1, int(tokens.starts[row + 1]))
        mine = tokens.ids[inside][tokens.supervised[inside]]
        assert batch.targets[batch.owners == owner].tolist() == mine.tolist()
    pairs = np.array(batch.rows).reshape(-1, tokens.per_example)
    assert (pairs[:, 0] % tokens.per_example == 0).all() and (np.diff(pairs, axis=1) == 1).all()


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=20), at_once=st.integers(1, 4), flat=st.booleans())
def test_packed_rows_are_full_and_nothing_is_ever_cut(lengths: list[int], at_once: int, flat: bool) -> None:
    tokens = ragged(lengths)
    layout = Layout(at_once, pad_id=0, row_tokens=24, flat=flat)
    found = list(micro_batches(tokens, range(len(lengths)), layout))
    sizes = row_lengths(tokens)
    for batch in found:
        rows, length = batch.ids.shape
        assert batch.mask is None and batch.positions is not None
        assert rows * length <= max(at_once * 24, max(lengths))  # an example that is longer has a row of its own
        starts = torch.nonzero(batch.positions.flatten() == 0).flatten().tolist()
        if flat:
            assert rows == 1 and length == sum(batch.lengths) == sizes[list(batch.rows)].sum()  # no padding at all
            assert batch.bounds is not None
            assert batch.bounds.tolist() == [*starts, length]
    again = list(micro_batches(tokens, list(reversed(range(len(lengths)))), layout))
    assert [batch.rows for batch in again] == [batch.rows for batch in found]  # whatever the order they were drawn in
    if flat:  # the largest first: what does not fit memory shows at once
        assert found[0].ids.numel() == max(batch.ids.numel() for batch in found)


# unsloth#416, llm-course#33, trl PR#6357
def test_eos_is_learned_and_seen_although_rows_are_padded_with_it() -> None:
    eos = 9
    ids = np.array([5, 6, eos, 5, 7, 8, 6, eos], np.int32)
    supervised = np.array([0, 0, 1, 0, 0, 0, 1, 1], np.bool_)
    tokens = Tokens(ids, supervised, np.array([0, 3, 8]), ("short", "long"))
    (batch,) = micro_batches(tokens, [0, 1], Layout(2, pad_id=eos))
    assert batch.ids.tolist() == [[5, 7, 8, 6, eos], [5, 6, eos, eos, eos]]
    assert batch.mask is not None and batch.mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert sorted(batch.targets.tolist()) == [6, eos, eos] and batch.owners.tolist().count(1) == 1


def _spans(tokens: Tokens) -> list[tuple[int, int]]:
    return list(zip(tokens.starts[:-1].tolist(), tokens.starts[1:].tolist(), strict=True))


def test_the_rate_rises_then_falls_to_nearly_nothing() -> None:
    training = Training(learning_rate=1e-3, warmup_ratio=0.1, schedule="cosine")
    rates = [schedule.rate(step, 100, training) for step in range(1, 101)]
    assert np.allclose(rates[:3], [1e-4, 2e-4, 3e-4])
    assert rates[9] == rates[10] == 1e-3 and rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 2e-6
    linear = [schedule.rate(step, 10, Training(schedule="linear", warmup_ratio=0)) for step in range(1, 11)]
    assert np.allclose(linear, [2e-4 * part / 10 for part in range(10, 0, -1)])
    assert {schedule.rate(step, 10, Training(schedule="constant", warmup_ratio=0)) for step in range(1, 11)} == {2e-4}
