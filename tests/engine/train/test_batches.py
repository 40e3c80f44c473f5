"""Which rows a step sees and what the tensors hold."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.data.prepare import Tokens
from engine.profile import Training
from engine.steps import total_steps
from engine.train import schedule
from engine.train.batches import Layout, examples_of_step, micro_batches, supervised_tokens


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


@given(lengths=st.lists(st.integers(2, 40), min_size=1, max_size=9), size=st.integers(1, 4))
def test_micro_batches_hold_every_supervised_token_once(lengths: list[int], size: int) -> None:
    tokens = ragged(lengths)
    rows = list(range(len(lengths)))
    found = list(micro_batches(tokens, rows, Layout(size, pad_id=0)))
    targets = np.concatenate([batch.targets.numpy() for batch in found])
    expected = np.concatenate(
        [tokens.ids[start + 1 : end][tokens.supervised[start + 1 : end]] for start, end in _spans(tokens)]
    )
    assert sorted(targets.tolist()) == sorted(expected.tolist())
    assert supervised_tokens(tokens, rows) == len(expected)
    assert [batch.ids.shape[1] for batch in found] == sorted((batch.ids.shape[1] for batch in found), reverse=True)
    for batch in found:  # a target is the token one to the right of its column, in the row that owns it
        places = (batch.kept % len(batch.columns)).tolist()
        for place, owner, target in zip(places, batch.owners.tolist(), batch.targets.tolist(), strict=True):
            assert target == batch.ids[owner, int(batch.columns[place]) + 1]
        for owner, row in enumerate(batch.rows):
            mine = int(tokens.supervised[tokens.starts[row] + 1 : tokens.starts[row + 1]].sum())
            assert int((batch.owners == owner).sum()) == mine


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
