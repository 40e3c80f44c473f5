"""float16 on cards that have no bfloat16: gradients neither vanish nor overflow, and no example is left out for it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest

from engine.ledger import events
from engine.ledger.states import State
from engine.train.checkpoint import Progress
from tests.engine.train.children import AllOf
from tests.engine.train.conftest import Bench, result_bytes

HALF = {"model.dtype": "float16", "method.dropout": 0.1, "training.epochs": 1, "split.validation": 0}


class FirstScale:
    """In the child: runs begin with this scale."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self) -> None:
        """Put it where a run begins."""
        from engine.train import begin

        made: Callable[..., Progress] = begin.Progress  # type: ignore[attr-defined]
        begin.Progress = lambda: made(scale=self.scale)  # type: ignore[assignment, attr-defined, misc]


def test_float16_gradients_that_overflow_are_made_again_with_half_the_scale(bench: Bench) -> None:
    large = FirstScale(2.0**40)
    whole = bench.run(bench.profile(**HALF), "whole")
    assert bench.train(whole, prepare=large).state is State.FINISHED
    state = json.loads((whole.folder / "checkpoints" / "step-000008" / "state.json").read_text())["progress"]
    assert 1 < state["scale"] < 2.0**40 and math.log2(state["scale"]).is_integer()
    assert not [event for event in events.of_run(bench.ledger, whole.id) if event.kind == "not finite"]
    exact = bench.trained("exact", **{**HALF, "model.dtype": "float32"})
    ours, theirs = bench.story(whole), bench.story(exact)
    assert ours["train/tokens"] == theirs["train/tokens"]
    for key in ("train/loss", "train/grad_norm"):
        assert [value for _, value in ours[key]] == pytest.approx([value for _, value in theirs[key]], rel=0.05)
    killed = bench.run(bench.profile(**HALF), "killed")
    bench.train(killed, prepare=AllOf(large, bench.at_step(killed, {5: "SIGKILL"})))
    assert bench.train(killed).state is State.FINISHED
    assert bench.story(killed) == ours and result_bytes(killed) == result_bytes(whole)
