"""Whatever is logged, replayed, killed and reopened: curves and summaries say the same."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.ledger import Ledger, metrics, runs
from engine.ledger.metrics import Writer
from engine.ledger.runs import Run

NAMES = ("train/loss", "validation/loss", "time/save")
VALUES = st.one_of(st.floats(width=64), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0]))
ROWS = st.tuples(
    st.integers(min_value=0, max_value=12), st.dictionaries(st.sampled_from(NAMES), VALUES, min_size=1, max_size=3)
)
ACTIONS = st.lists(st.one_of(ROWS, st.sampled_from(["flush", "reopen"])), max_size=40)


def summary_of(points: dict[int, float]) -> runs.Summary:
    """The plain definition: last by step, lowest finite value at its first step."""
    last_step = max(points)
    finite = [(value, step) for step, value in sorted(points.items()) if math.isfinite(value)]
    low = min(finite, default=(None, None), key=lambda pair: pair[0])
    last = points[last_step]
    return runs.Summary(last if math.isfinite(last) else None, last_step, *low)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ACTIONS)
def test_whatever_the_order_curves_hold_the_newest_of_each_step_and_summaries_agree(actions: list[object]) -> None:
    expected: dict[str, dict[int, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger.open(Path(folder) / "ledger.db")
        run = runs.create(ledger, name="speech", runs_folder=Path(folder), profile="", settings={})
        grown = {name: metrics.curve(ledger, run.id, name) for name in NAMES}
        log = Writer(ledger, run.id)
        for action in actions:
            if isinstance(action, tuple):
                step, values = action
                log.log(step, values)
                for name, value in values.items():
                    expected.setdefault(name, {})[step] = value
            elif action == "flush":
                assert log.flush()
                grown = {
                    name: curve.joined(metrics.curve(ledger, run.id, name, after=curve.seq))
                    for name, curve in grown.items()
                }
            else:
                log.close()
                ledger.close()
                ledger = Ledger.open(Path(folder) / "ledger.db")
                log = Writer(ledger, run.id)
        log.close()

        assert metrics.keys(ledger, run.id) == sorted(expected)
        summaries = runs.summaries(ledger).get(run.id, {})
        for name in NAMES:
            points = expected.get(name, {})
            curve = metrics.curve(ledger, run.id, name)
            assert curve.steps.tolist() == sorted(points)
            np.testing.assert_array_equal(curve.values, [points[step] for step in sorted(points)])
            increment = metrics.curve(ledger, run.id, name, after=grown[name].seq)
            np.testing.assert_array_equal(grown[name].joined(increment).values, curve.values)
            if points:
                assert summaries[name] == summary_of(points)
                row = ledger.rows("SELECT n, gaps FROM series s JOIN key k ON k.id = s.key WHERE k.name = ?", (name,))
                gaps = sum(not math.isfinite(value) for value in points.values())
                assert row == [(len(points), gaps)]
        ledger.close()


def test_an_increment_brings_only_what_is_new_and_replayed_steps_again(ledger: Ledger, run: Run) -> None:
    with Writer(ledger, run.id) as log:
        for step in range(100):
            log.log(step, {"train/loss": 1.0, "train/rate": 2.0})
    curve = metrics.curve(ledger, run.id, "train/loss")
    assert len(metrics.curve(ledger, run.id, "train/loss", after=curve.seq).steps) == 0
    with Writer(ledger, run.id) as log:
        for step in range(95, 103):
            log.log(step, {"train/loss": 3.0, "train/rate": 2.0})
    increment = metrics.curve(ledger, run.id, "train/loss", after=curve.seq)
    assert increment.steps.tolist() == list(range(95, 103))
    joined = curve.joined(increment)
    assert joined.steps.tolist() == list(range(103))
    assert joined.values.tolist() == [1.0] * 95 + [3.0] * 8
    assert len(metrics.curve(ledger, run.id, "train/loss", after=joined.seq).steps) == 0


# Measured in today's loops: a run that goes on behind a checkpoint logs the steps since then once more, and curves have them twice.
def test_replayed_steps_do_not_appear_twice(ledger: Ledger, run: Run) -> None:
    for first, last, value in ((1, 8, 1.0), (6, 12, 2.0)):  # killed behind step 8, gone on with from step 5
        with Writer(ledger, run.id) as log:
            for step in range(first, last + 1):
                log.log(step, {"train/loss": value})
    curve = metrics.curve(ledger, run.id, "train/loss")
    assert curve.steps.tolist() == list(range(1, 13))
    assert curve.values.tolist() == [1.0] * 5 + [2.0] * 7


def test_runs_do_not_mix(ledger: Ledger, run: Run, tmp_path: Path) -> None:
    other = runs.create(ledger, name="other", runs_folder=tmp_path, profile="", settings={})
    with Writer(ledger, run.id) as mine, Writer(ledger, other.id) as theirs:
        for step in range(50):
            mine.log(step, {"train/loss": 1.0})
            theirs.log(step, {"train/loss": 2.0})
    assert set(metrics.curve(ledger, run.id, "train/loss").values) == {1.0}
    assert set(metrics.curve(ledger, other.id, "train/loss").values) == {2.0}
    assert len(metrics.curve(ledger, run.id, "never/logged").steps) == 0
