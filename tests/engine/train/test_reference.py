"""The reference of DPO: what the model as the run begins with it says, and never what it has become."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.data.prepare import Prepared, Tokens
from engine.data.tokenizer import load_tokenizer
from engine.ledger import jobs, metrics, orders
from engine.train import device, model, optimizer, reference, validate
from engine.train.batches import micro_batches
from engine.train.checkpoint import trained
from engine.train.objective import Dpo
from engine.train.parts import Parts
from engine.train.scorer import Scorer
from tests.engine.train.conftest import Bench
from tests.engine.train.test_objectives import by_hand, paired

CPU = torch.device("cpu")
PAIRS = [30, 12, 9, 40, 22, 23, 50, 7]


@pytest.fixture(autouse=True)
def settled() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


def parts_of(bench: Bench, name: str = "run", **settings: object) -> Parts:
    """A DPO run as the job sets it up, with pairs of our own."""
    run = bench.run(bench.profile(**{"training.objective": "dpo", **settings}), name)
    (run.folder / "prepared").mkdir(exist_ok=True)
    made = jobs.sign_in(bench.ledger, bench.job(run), pid=os.getpid())
    asked = Dpo(0.1, False)
    plain = bench.profile(**settings)
    device.set_up(CPU, seed=7, deterministic=True, thread_count=1)
    loaded = model.load(plain, CPU, vocabulary=400)
    return Parts(
        ledger=bench.ledger,
        run=run,
        job=made,
        profile=plain,
        prepared=Prepared(paired(PAIRS), paired(PAIRS[:4], seed=1), 0, "data", 128, ()),
        tokenizer=load_tokenizer(str(bench.base), "main"),
        loaded=loaded,
        scorer=Scorer(loaded.model, loaded.autocast),
        objective=asked,
        validation_objective=asked,
        optimizer=optimizer.make(loaded.model, plain.training, CPU),
        writer=metrics.Writer(bench.ledger, run.id),
    )


def of(parts: Parts) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    assert isinstance(parts.objective, Dpo) and isinstance(parts.validation_objective, Dpo)
    assert parts.objective.reference is not None and parts.validation_objective.reference is not None
    return parts.objective.reference, parts.validation_objective.reference


def disturb(parts: Parts) -> None:
    """Weights as training would leave them."""
    with torch.no_grad():
        for weight in trained(parts.loaded.model).values():
            weight.add_(0.05 * torch.randn_like(weight))


METHODS: list[dict[str, object]] = [
    {"method.dropout": 0.5},
    {"method.name": "full"},
    {"method.dora": True},
    {"method.bias": "all"},
    {"method.modules_to_save": ("lm_head",)},
    {"method.name": "ia3"},
    {"method.name": "prompt_tuning"},
    {"method.name": "prefix"},
    {"model.quantization": "nf4"},
]


@pytest.mark.parametrize("settings", METHODS, ids=lambda settings: " ".join(map(str, settings.values())))
def test_the_reference_is_the_base_for_every_method_and_leaves_no_trace(
    bench: Bench, settings: dict[str, object]
) -> None:
    parts = parts_of(bench, "run", **settings)
    before = torch.get_rng_state()
    learning = {name: weight.detach().clone() for name, weight in trained(parts.loaded.model).items()}
    assert not reference.stands(parts)
    train, validation = of(reference.give(parts))
    assert reference.stands(parts)
    assert torch.equal(before, torch.get_rng_state()) and parts.loaded.model.training
    now = trained(parts.loaded.model)
    assert now.keys() == learning.keys() and all(torch.equal(now[name], learning[name]) for name in now)

    base = model.load_base(parts.profile.model, CPU, trainable=False)
    base.train(False)
    alone = replace(parts.loaded, model=base)
    for tokens, found in ((parts.prepared.train, train), (parts.prepared.validation, validation)):
        np.testing.assert_allclose(found, [float(row.sum()) for row in by_hand(alone, tokens)], rtol=1e-4)


def test_the_reference_of_a_fresh_adapter_is_the_adapter_switched_off(bench: Bench) -> None:
    parts = parts_of(bench)
    train, _ = of(reference.give(parts))
    disturb(parts)
    with parts.loaded.model.disable_adapter(), validate.asking(parts.loaded):  # type: ignore[operator]
        for batch in micro_batches(parts.prepared.train, range(4), parts.layout):
            nll = parts.scorer(batch)
            for place, row in enumerate(batch.rows):
                assert float(-nll[batch.owners == place].sum()) == pytest.approx(float(train[row]), rel=1e-6)


def test_the_reference_stands_once_it_is_written_whatever_the_weights_have_become(bench: Bench) -> None:
    parts = parts_of(bench, **{"method.name": "full"})
    first = of(reference.give(parts))
    disturb(parts)
    again = of(reference.give(parts))
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))


@pytest.mark.parametrize("how", ["signal", "order"])
def test_a_reference_that_was_interrupted_goes_on_where_it_was_and_ends_the_same(
    bench: Bench, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "TOLD_EVERY", 0.0)
    whole = of(reference.give(parts_of(bench, "whole")))
    parts = parts_of(bench, "interrupted")
    scored: list[tuple[int, ...]] = []

    def after(_module: object, arguments: tuple[object, ...], _output: object) -> None:
        scored.append(arguments[0].rows)  # type: ignore[attr-defined]
        if len(scored) == 2:
            if how == "signal":
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                orders.give(bench.ledger, parts.run.id, "stop")

    hook = parts.scorer.register_forward_hook(after)
    with pytest.raises(KeyboardInterrupt, match=f"Stopped by {how} when 2 of 6 pairs"):
        reference.give(parts)
    hook.remove()
    assert not reference.stands(parts) and parts.loaded.model.training
    assert not orders.waiting(bench.ledger, parts.run.id)
    rest: list[tuple[int, ...]] = []
    parts.scorer.register_forward_hook(lambda _module, arguments, _output: rest.append(arguments[0].rows))
    resumed = of(reference.give(parts))
    assert sorted(scored + rest[:2]) == [(0, 1), (2, 3), (4, 5), (6, 7)]  # of training; two more are of validation
    assert all(np.array_equal(one, other) for one, other in zip(whole, resumed, strict=True))
    seen = jobs.get(bench.ledger, parts.job.uid)
    assert (seen.done, seen.total) == (6, 6)


@pytest.mark.parametrize("what", ["data", "model", "damaged"])
def test_a_reference_of_something_else_is_not_taken(bench: Bench, what: str) -> None:
    parts = parts_of(bench)
    reference.give(parts)
    place = parts.run.folder / "prepared" / "reference.safetensors"
    if what == "data":
        parts = replace(parts, prepared=replace(parts.prepared, train=paired(PAIRS, seed=9)))
    elif what == "model":
        other = parts.profile.model.model_copy(update={"dtype": "bfloat16"})
        parts = replace(parts, profile=parts.profile.model_copy(update={"model": other}))
    else:
        place.write_bytes(place.read_bytes()[:-3])
    assert not reference.stands(parts)


def test_without_validation_only_the_training_pairs_are_scored(bench: Bench) -> None:
    parts = parts_of(bench)
    none = Tokens(np.empty(0, np.int32), np.empty(0, np.bool_), np.zeros(1, np.int64), (), per_example=2)
    train, validation = of(reference.give(replace(parts, prepared=replace(parts.prepared, validation=none))))
    assert len(train) == 8 and not len(validation)
    assert (parts.run.folder / "prepared" / "reference.safetensors").stat().st_mode & 0o077 == 0
