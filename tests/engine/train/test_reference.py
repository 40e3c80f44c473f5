"""The reference of DPO: what the model as the run begins with it says, and never what it has become."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from engine.data.prepare import Prepared, Tokens
from engine.data.tokenizer import load_tokenizer
from engine.ledger import Ledger, checkpoints, events, jobs, metrics, orders, runs
from engine.ledger.jobs import Job
from engine.ledger.runs import Run
from engine.ledger.states import State
from engine.profile import Data, Profile
from engine.train import device, model, optimizer, pretrained, reference, validate
from engine.train.batches import Layout, micro_batches
from engine.train.checkpoint import trained
from engine.train.memory import MemoryWatch
from engine.train.objective import Dpo
from engine.train.parts import Parts
from engine.train.ranks import ALONE, Ranks
from engine.train.scorer import Scorer
from tests.engine.train.conftest import Bench, result_bytes
from tests.engine.train.test_objectives import by_hand, paired
from tests.engine.train.together import together

CPU = torch.device("cpu")
PAIRS = [30, 12, 9, 40, 22, 23, 50, 7]


@pytest.fixture(autouse=True)
def settled() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


def parts_of(bench: Bench, name: str = "run", **settings: object) -> Parts:
    """A DPO run as the job sets it up, with pairs of our own."""
    plain = bench.profile(**settings)
    run = bench.run(plain, name)
    (run.folder / "prepared").mkdir()
    return assembled(bench.ledger, jobs.sign_in(bench.ledger, bench.job(run), pid=os.getpid()), plain)


def assembled(ledger: Ledger, job: Job, plain: Profile, ranks: Ranks = ALONE) -> Parts:
    device.set_up(CPU, seed=7, deterministic=True, thread_count=1)
    loaded = model.load(plain, CPU, vocabulary=400)
    run = runs.by_id(ledger, job.run or 0)
    assert run is not None
    return Parts(
        ledger=ledger,
        run=run,
        job=job,
        profile=plain,
        prepared=Prepared(paired(PAIRS), paired(PAIRS[:4], seed=1), 0, "data", 128, ()),
        tokenizer=load_tokenizer(plain.model.base, "main"),
        loaded=loaded,
        scorer=Scorer(loaded.model, loaded.autocast),
        layout=Layout(2, pad_id=0),
        objective=Dpo(0.1, False),
        validation_objective=Dpo(0.1, False),
        optimizer=optimizer.make(loaded.model, plain.training, CPU),
        writer=metrics.Writer(ledger, run.id),
        memory=MemoryWatch(CPU),
        ranks=ranks,
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


# Of `full` there is no adapter to switch off: a reference that is asked for later would be the model that is trained.
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

    base = pretrained.load_base(parts.profile.model, CPU, trainable=False)
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


def test_ranks_score_their_shares_and_all_know_all(bench: Bench) -> None:
    """Three ranks for four pairs and two: some have nothing left to score and take part all the same."""
    alone = of(reference.give(parts_of(bench, "alone")))
    parts = parts_of(bench, "together")
    for train, validation, scored in together(
        bench.folder / "ranks", 3, _scored_on_a_rank, bench.ledger.path, parts.job.uid, parts.profile
    ):
        np.testing.assert_allclose(train, alone[0], rtol=1e-5)
        np.testing.assert_allclose(validation, alone[1], rtol=1e-5)
        assert scored == 3  # two passes for training, one for validation
    assert reference.stands(parts)


def _scored_on_a_rank(
    ranks: Ranks, place: Path, job: str, plain: Profile
) -> tuple[NDArray[np.float32], NDArray[np.float32], int]:
    ledger = Ledger.open(place)
    parts = assembled(ledger, jobs.get(ledger, job), plain, ranks)
    passes: list[object] = []
    parts.scorer.register_forward_hook(lambda *_: passes.append(None))
    found = of(reference.give(parts))
    ledger.close()
    return *found, len(passes)


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


def preferring(bench: Bench, **settings: object) -> Profile:
    """A profile of pairs: 24 to train on, 8 to validate, the chosen one with another ending than the rejected one."""
    rows = [json.loads(line) for line in bench.data.read_text().splitlines()]
    pairs = [
        {
            "instruction": f"{row['instruction']} {row['input']}",
            "chosen": row["output"],
            "rejected": "I do not know." * (1 + n % 4),
        }
        for n, row in enumerate(rows)
    ]
    place = bench.folder / "pairs.jsonl"
    place.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    columns = {"instruction": "instruction", "chosen": "chosen", "rejected": "rejected"}
    asked = bench.profile(**{"training.objective": "dpo", "training.max_steps": 8, **settings})
    return asked.model_copy(update={"data": (Data(source=str(place), columns=columns),)})


TOLD = tuple(
    f"{part}/{name}"
    for part in ("train", "validation")
    for name in (
        "loss",
        "accuracy",
        "reward_margin",
        "chosen_reward",
        "rejected_reward",
        "chosen_logp",
        "rejected_logp",
    )
)


def story(bench: Bench, run: Run) -> dict[str, list[tuple[int, float]]]:
    curves = {key: metrics.curve(bench.ledger, run.id, key) for key in TOLD}
    return {key: list(zip(curve.steps.tolist(), curve.values.tolist(), strict=True)) for key, curve in curves.items()}


@pytest.mark.parametrize(
    ("settings", "lost"),
    [({}, False), ({"method.name": "full", "training.packing": True}, True)],
    ids=["lora", "full, packed, and its reference lost"],
)
def test_a_killed_and_resumed_dpo_run_is_bit_identical(bench: Bench, settings: dict[str, object], lost: bool) -> None:
    asked = preferring(bench, **settings)
    whole, killed = bench.run(asked, "whole"), bench.run(asked, "killed")
    assert bench.train(whole).state is State.FINISHED
    told = story(bench, whole)
    assert all(len(told[key]) == (8 if key.startswith("train/") else 2) for key in TOLD)
    assert told["train/loss"][0][1] == pytest.approx(np.log(2), rel=1e-5)  # the first step sees its own reference
    assert told["validation/reward_margin"][-1][1] > 0

    bench.train(killed, prepare=_die_while_scoring)
    assert not checkpoints.of_run(bench.ledger, killed.id)
    bench.train(killed, prepare=bench.at_step(killed, {2: "SIGKILL"}))  # before the first checkpoint
    place = killed.folder / "prepared" / "reference.safetensors"
    written = place.read_bytes()
    bench.train(killed, prepare=bench.at_step(killed, {4: "SIGKILL"}))
    assert checkpoints.of_run(bench.ledger, killed.id) and place.read_bytes() == written
    if lost:  # it is made again, and not from weights that were trained
        place.unlink()
    assert bench.train(killed).state is State.FINISHED
    scored, alone = (load_file(run.folder / "prepared" / "reference.safetensors") for run in (killed, whole))
    assert all(np.array_equal(scored[part], alone[part]) for part in ("train", "validation"))
    assert story(bench, killed) == told and bench.story(killed) == bench.story(whole)
    assert result_bytes(killed) == result_bytes(whole)
    assert [event.kind for event in events.of_run(bench.ledger, killed.id)].count("reference") == 1 + lost


def _die_while_scoring() -> None:
    from engine.train import reference as scoring

    scoring.KEPT_EVERY = 0.0  # type: ignore[misc]
    after, left = scoring._Watch.after, [4]

    def dying(self: scoring._Watch, passes: int, examples: int) -> None:
        after(self, passes, examples)
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    scoring._Watch.after = dying  # type: ignore[method-assign]
