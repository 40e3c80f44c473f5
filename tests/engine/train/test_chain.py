"""Runs that go on from runs: pretraining, then fine-tuning, then preferences."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from engine import folders, lineage, removal
from engine.errors import Problem
from engine.evaluate.pairing import base_of
from engine.evaluate.plan import plan
from engine.ledger import evaluations, events, jobs, metrics, runs
from engine.ledger.runs import Run
from engine.ledger.states import State
from engine.profile import Data
from engine.train import chain, fingerprints, model, result
from engine.train.batches import Layout, micro_batches
from engine.train.checkpoint import trained
from engine.train.scorer import Scorer
from tests.engine.train import children
from tests.engine.train.conftest import Bench, result_bytes
from tests.engine.train.test_batches import ragged
from tests.tiny import make_llama

CPU = torch.device("cpu")
BRIEF = {"training.max_steps": 3, "training.save_every": 100, "training.evaluate_every": 3}
ADAPTER = "adapter_model.safetensors"


def onward(bench: Bench, parent: str, name: str, data: Data | None = None, /, **settings: object) -> Run:
    """A run that goes on from the run `parent`, as starting one makes it."""
    asked = bench.profile(**{**BRIEF, **settings, "model.base": f"run:{parent}"})
    if data:
        asked = asked.model_copy(update={"data": (data,)})
    profile, uid = lineage.grounded(asked, bench.ledger, [])
    made = bench.run(profile, name)
    with bench.ledger.transaction() as connection:
        connection.execute("UPDATE run SET parent = ? WHERE id = ?", (uid, made.id))
    return runs.find(bench.ledger, made.uid)


def trained_on(bench: Bench, parent: str, name: str, data: Data | None = None, /, **settings: object) -> Run:
    """The same, finished."""
    run = onward(bench, parent, name, data, **settings)
    job = bench.train(run)
    assert job.state is State.FINISHED, job.message
    return runs.find(bench.ledger, run.uid)


def left(bench: Bench, name: str, **settings: object) -> Run:
    """A finished run with a result of some weights, without the time that training takes."""
    profile = bench.profile(**settings)
    run = bench.run(profile, name)
    made = model.load(profile, CPU, vocabulary=400)
    with torch.no_grad():
        for weight in trained(made.model).values():
            weight.add_(0.05 * torch.randn_like(weight))
    kind = result.kind(profile.method)
    result.write(run.folder / kind / "best", made, profile.model)
    runs.set_result(bench.ledger, run, kind=kind, path=f"{kind}/best")
    runs.record(bench.ledger, run, fingerprints={"base": fingerprints.of_base(Path(profile.model.base))})
    return now(bench, run, State.FINISHED)


def now(bench: Bench, run: Run, state: State) -> Run:
    """The run in this state."""
    with bench.ledger.transaction() as connection:
        connection.execute("UPDATE run SET state = ? WHERE id = ?", (state, run.id))
    return runs.find(bench.ledger, run.uid)


def refused(bench: Bench, parent: str, **settings: object) -> Problem:
    with pytest.raises(Problem) as caught:
        onward(bench, parent, "refused", **settings)
    assert caught.value.why and caught.value.do
    return caught.value


def test_pretraining_then_fine_tuning_then_preferences(bench: Bench) -> None:
    rows = [json.loads(line) for line in bench.data.read_text().splitlines()]
    texts, pairs = bench.folder / "texts.jsonl", bench.folder / "pairs.jsonl"
    texts.write_text("".join(json.dumps({"text": f"{row['input']} {row['output']}"}) + "\n" for row in rows))
    pairs.write_text(
        "".join(
            json.dumps({"instruction": row["instruction"], "chosen": row["output"], "rejected": "I do not know."})
            + "\n"
            for row in rows
        )
    )
    pretrain = bench.profile(**BRIEF, **{"training.objective": "pretrain"})
    first = bench.run(pretrain.model_copy(update={"data": (Data(source=str(texts)),)}), "pretrain")
    assert bench.train(first).state is State.FINISHED
    trained_on(bench, "pretrain", "sft", **{"training.max_steps": 6})
    last = trained_on(
        bench, "sft", "dpo", Data(source=str(pairs)), **{"training.objective": "dpo", "method.dropout": 0.0}
    )

    told = runs.document(bench.ledger, last).environment["lineage"]
    assert isinstance(told, list)
    assert [(each["name"], each["objective"], each["base"]) for each in told] == [
        ("pretrain", "pretrain", str(bench.base)),
        ("sft", "sft", str(bench.base)),
    ]
    assert last.parent == told[1]["uid"] and runs.find(bench.ledger, "sft").parent == told[0]["uid"]
    # What it prefers is measured against the model as fine-tuned, not against the base: at first they do not differ.
    curves = {
        key: metrics.curve(bench.ledger, last.id, f"train/{key}").values
        for key in ("loss", "chosen_reward", "reward_margin")
    }
    assert curves["loss"][0] == pytest.approx(np.log(2), rel=1e-5) and abs(curves["chosen_reward"][0]) < 1e-4
    assert curves["reward_margin"][-1] > 0
    suite = bench.folder / "suite.jsonl"
    suite.write_text('{"id": "a", "prompt": "What is it?", "answer": "normal"}\n')
    assert {task.base.base for task in plan(bench.ledger, ["pretrain", "sft", "dpo"], [str(suite)])} == {
        str(bench.base)
    }


@pytest.mark.parametrize(
    "settings",
    [
        {"method.dora": True, "method.targets": ("q_proj", "down_proj"), "method.modules_to_save": ("lm_head",)},
        {"method.name": "full"},
    ],
    ids=["dora and a whole module", "full"],
)
def test_a_run_begins_with_exactly_what_the_one_before_left(bench: Bench, settings: dict[str, object]) -> None:
    """With a rate of almost nothing, the second run ends with the first one's weights."""
    first = left(bench, "first", **settings)
    method = {key: value for key, value in settings.items() if key == "method.name"}
    second = trained_on(bench, "first", "second", **{**method, "training.learning_rate": 1e-30})
    assert first.result is not None and second.result is not None
    name = "model.safetensors" if first.result_kind == "model" else ADAPTER
    before, after = load_file(first.result / name), load_file(second.result / name)
    assert before.keys() == after.keys() and all(np.array_equal(before[key], after[key]) for key in before)
    told = [event for event in events.of_run(bench.ledger, second.id) if event.kind == "parent"]
    assert [event.text for event in told] == [f"Started from the {first.result_kind} of first"]


@pytest.mark.parametrize("before", ["ia3", "prefix", "prompt_tuning", "p_tuning"])
def test_an_adapter_of_every_method_is_gone_on_from(bench: Bench, before: str) -> None:
    """The virtual tokens that p_tuning left go on as those of prompt tuning: the network that made them is not part of its result."""
    first = left(bench, "first", **{"method.name": before, "method.virtual_tokens": 4})
    asked = bench.profile(
        **{"model.base": "run:first", "method.name": "prompt_tuning" if before == "p_tuning" else before}
    )
    onto, _ = lineage.grounded(asked, bench.ledger, [])
    assert first.result is not None
    begun = model.load(onto, CPU, vocabulary=400)
    chain.load_adapter(begun, first.result, "first")
    served = model.load_result(onto.model, CPU, kind="adapter", path=first.result)
    (batch,) = micro_batches(ragged([9, 20]), range(2), Layout(2, 0))
    with torch.no_grad():
        begun.model.train(False)
        torch.testing.assert_close(Scorer(begun.model, None)(batch), Scorer(served, None)(batch))


def test_p_tuning_cannot_go_on_as_itself(bench: Bench) -> None:
    left(bench, "first", **{"method.name": "p_tuning"})
    problem = refused(bench, "first", **{"method.name": "p_tuning"})
    assert "without the network" in problem.why and "prompt_tuning" in problem.do


def test_an_adapter_goes_on_with_its_shape_and_on_its_base_as_it_was(bench: Bench) -> None:
    left(bench, "first", **{"model.quantization": "nf4", "method.targets": ("q_proj",), "method.rank": 2})
    notes: list[str] = []
    asked = bench.profile(**{"model.base": "run:first", "method.dropout": 0.3})
    profile, _ = lineage.grounded(asked, bench.ledger, notes)
    assert (profile.method.rank, profile.method.targets, profile.method.dropout) == (2, ("q_proj",), 0.3)
    assert (profile.model.quantization, profile.model.base) == ("nf4", str(bench.base))
    assert any("rank 2" in note and "targets q_proj" in note for note in notes)
    assert any("the base is nf4" in note for note in notes)


def test_another_method_is_refused_with_what_to_do(bench: Bench) -> None:
    left(bench, "first")
    assert "method.name = lora" in refused(bench, "first", **{"method.name": "ia3"}).do
    full = refused(bench, "first", **{"method.name": "full"})
    assert "export first --format merged" in full.do and "whole model" in full.why


def test_a_result_that_is_gone_or_still_changes_is_refused_with_what_to_do(bench: Bench) -> None:
    first = left(bench, "first")
    assert first.result is not None
    shutil.rmtree(first.result)
    assert "any more" in refused(bench, "first").what
    bench.run(bench.profile(), "waiting")
    assert "waiting is queued" in refused(bench, "waiting").what
    now(bench, left(bench, "stopped"), State.STOPPED)
    notes: list[str] = []
    lineage.grounded(bench.profile(**{"model.base": "run:stopped"}), bench.ledger, notes)
    assert notes == ["stopped is stopped at step 0: what it has left so far is gone on from"]


def test_what_happens_to_the_parent_before_the_start_is_noticed(bench: Bench) -> None:
    first = left(bench, "first")
    assert first.result is not None
    adapter = first.result / ADAPTER
    good = load_file(adapter)

    def failure(run: Run) -> str:
        job = bench.train(run)
        assert job.state is State.FAILED
        return f"{job.cause}: {job.message}"

    adapter.write_bytes(adapter.read_bytes()[:-1] + b"x")
    assert "changed: The result of first is damaged" in failure(onward(bench, "first", "flipped"))
    lacking = {key: good[key] for key in list(good)[1:]}
    folders.publish(first.result, lambda place: save_file(lacking, place / ADAPTER))
    assert "model: The adapter of first cannot be gone on from" in failure(onward(bench, "first", "lacking"))
    waiting = onward(bench, "first", "waiting")
    with bench.ledger.transaction() as connection:
        connection.execute("DELETE FROM run WHERE id = ?", (first.id,))
    assert "run: The run that waiting goes on from was deleted" in failure(waiting)


def test_an_adapter_for_another_base_is_refused(bench: Bench) -> None:
    own = replace(bench, base=make_llama(bench.folder / "base", seed=1))
    left(own, "first")
    second = onward(own, "first", "second")
    make_llama(own.base, seed=2)
    job = own.train(second)
    assert (job.state, job.cause) == (State.FAILED, "changed") and "adapter of first is for another base" in job.message


def test_a_killed_run_goes_on_without_its_parent_once_it_has_a_checkpoint(bench: Bench) -> None:
    settings = {"training.max_steps": 8, "training.save_every": 3}
    first = left(bench, "first")
    whole = trained_on(bench, "first", "whole", **settings)
    killed = onward(bench, "first", "killed", **settings)
    bench.train(killed, prepare=bench.at_step(killed, {5: "SIGKILL"}))
    removal.remove(bench.ledger, first)
    assert bench.train(killed).state is State.FINISHED
    assert bench.story(killed) == bench.story(whole) and result_bytes(killed) == result_bytes(whole)


def test_a_chain_of_whole_models_is_held_against_the_first_base(bench: Bench) -> None:
    full = {"method.name": "full"}
    first = left(bench, "first", **full)
    trained_on(bench, "first", "second", **full)
    third = trained_on(bench, "second", "third", **{"method.name": "lora"})
    told = runs.document(bench.ledger, third).environment["lineage"]
    assert isinstance(told, list) and [each["name"] for each in told] == ["first", "second"]
    with pytest.raises(Problem, match="second is the base model of third"):
        removal.remove(bench.ledger, runs.find(bench.ledger, "second"))
    base = runs.document(bench.ledger, first).fingerprints["base"]
    removal.remove(bench.ledger, first)  # what is known of it stands in those that came after it

    suite = bench.folder / "suite.jsonl"
    suite.write_text('{"id": "a", "prompt": "What is it?", "choices": ["normal", "raised"], "answer": "normal"}\n')
    argument: dict[str, object] = {"runs": [third.uid], "suites": [str(suite)]}
    job = jobs.create(bench.ledger, "evaluate", run=third.id, argument=argument, log=third.folder / "evaluate.txt")
    assert children.finish(children.start(bench.ledger.path, job.uid)) == 0
    (tuned,) = evaluations.of_run(bench.ledger, third.id)
    against = base_of(bench.ledger, third, tuned)
    assert against is not None and (against.model, against.model_name) == (base, bench.base.name)
    assert runs.document(bench.ledger, third).fingerprints["base"] != base
