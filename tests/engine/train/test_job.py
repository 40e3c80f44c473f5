"""What a run does when something happens to it: orders, signals, bad numbers, no progress, a second process."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from engine import folders
from engine.ledger import artifacts, checkpoints, events, jobs, metrics, orders, runs
from engine.ledger.states import State
from tests.engine.train import children
from tests.engine.train.conftest import Bench, result_bytes
from tests.tiny import make_llama

RARE = {"training.evaluate_every": 100, "training.save_every": 6}


def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds, generously."""
    for _ in range(6000):  # looks are counted, not the time: a machine may stand still
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it never came to hold")


def test_a_finished_run_has_its_result_and_knows_what_it_is_made_of(bench: Bench) -> None:
    run = bench.trained()
    document = runs.document(bench.ledger, run)
    assert run.result is not None and run.result_path == "adapter/best"
    assert document.fingerprints["result"] == folders.fingerprint(run.result)
    assert set(document.fingerprints) == {"data", "base", "result"}
    assert document.environment["parameters"] == {"trainable": 8192, "total": 147_776}
    assert (run.step, run.steps) == (12, 12)
    assert run.measured_mib is not None and run.measured_mib > 100
    kept = checkpoints.of_run(bench.ledger, run.id)
    assert [point.step for point in kept][-2:] == [9, 12] and sum(point.best for point in kept) == 1
    assert all((run.folder / point.path).is_dir() for point in kept)
    assert len(list((run.folder / "checkpoints").iterdir())) == len(kept)
    assert {"train/tokens_per_second", "time/forward", "time/save", "memory/process_mib"} <= set(
        metrics.keys(bench.ledger, run.id)
    )
    assert [event.kind for event in events.of_run(bench.ledger, run.id)].count("sample") == 1
    left = {artifact.path: artifact for artifact in artifacts.of_run(bench.ledger, run.id)}
    assert left.keys() == {"adapter/best", "adapter/last"}
    best = left["adapter/best"]
    assert (best.kind, best.fingerprint) == ("adapter", document.fingerprints["result"])
    files = [path for path in run.result.iterdir() if path.name != folders.MANIFEST]
    assert best.bytes == sum(path.stat().st_size for path in files)
    assert (run.gpu, len(run.comparable)) == ("cpu", 64)


def test_without_validation_the_last_weights_are_the_result(bench: Bench) -> None:
    run = bench.trained(**{"split.validation": 0, "training.max_steps": 2})
    assert run.result_path == "adapter/last" and run.result is not None and run.result.is_dir()
    assert runs.document(bench.ledger, run).fingerprints["result"] == folders.fingerprint(run.result)


def test_a_rate_order_is_part_of_the_run_and_taken_again_after_a_resume(bench: Bench) -> None:
    whole, killed = bench.run(bench.profile(**RARE), "whole"), bench.run(bench.profile(**RARE), "killed")
    bench.train(whole, prepare=bench.at_step(whole, {7: "rate 0.5"}))
    bench.train(killed, prepare=bench.at_step(killed, {7: "rate 0.5", 9: "SIGKILL"}))
    assert checkpoints.of_run(bench.ledger, killed.id)[-1].step == 6
    assert bench.train(killed).state is State.FINISHED
    assert orders.taken(bench.ledger, killed.id)[0].step == 7
    assert bench.story(killed) == bench.story(whole)
    assert result_bytes(killed) == result_bytes(whole)
    rates = dict(bench.story(whole)["train/rate"])
    plain = dict(bench.story(bench.trained("plain", **RARE))["train/rate"])
    assert rates[7] == plain[7] and rates[8] == pytest.approx(plain[8] / 2)


def test_pause_checkpoint_evaluate_and_continue(bench: Bench) -> None:
    run = bench.run(bench.profile(**RARE))
    job = bench.job(run)
    child = children.start(bench.ledger.path, job.uid, prepare=bench.at_step(run, {2: "pause"}))
    until(lambda: jobs.get(bench.ledger, job.uid).state is State.PAUSED)
    for verb in ("checkpoint", "evaluate", "rate", "continue"):
        orders.give(bench.ledger, run.id, verb)
    assert children.finish(child) == 0
    answers = {order.verb: (order.step, order.answer) for order in orders.taken(bench.ledger, run.id)}
    assert {verb: answers[verb][0] for verb in ("pause", "checkpoint", "evaluate", "continue")} == dict.fromkeys(
        ("pause", "checkpoint", "evaluate", "continue"), 2
    )
    assert not orders.waiting(bench.ledger, run.id) and "rate" not in answers  # a rate needs a factor
    assert bench.story(run)["validation/loss"][0][0] == 2
    assert any(event.kind == "checkpoint" and event.step == 2 for event in events.of_run(bench.ledger, run.id))


@pytest.mark.parametrize("how", ["stop", "SIGTERM"])
def test_stopping_keeps_a_checkpoint_of_the_very_step(bench: Bench, how: str) -> None:
    whole = bench.trained("whole", **RARE)
    run = bench.run(bench.profile(**RARE), "stopped")
    job = bench.train(run, prepare=bench.at_step(run, {5: how}))
    assert job.state is State.STOPPED and "step 5" in job.message
    assert [point.step for point in checkpoints.of_run(bench.ledger, run.id)] == [5]
    assert (run.folder / "adapter" / "last" / "adapter_model.safetensors").is_file()
    assert bench.train(run).state is State.FINISHED
    assert bench.story(run) == bench.story(whole) and result_bytes(run) == result_bytes(whole)


def test_two_signals_stop_at_once_and_orders_to_an_ended_job_are_dropped(bench: Bench) -> None:
    run = bench.run(bench.profile(**RARE))
    job = bench.train(run, prepare=bench.at_step(run, {5: ["SIGTERM", "SIGINT"]}))
    assert job.state is State.STOPPED and "at once" in job.message
    assert not checkpoints.of_run(bench.ledger, run.id)
    orders.give(bench.ledger, run.id, "stop")
    assert bench.train(run).state is State.FINISHED
    assert not orders.waiting(bench.ledger, run.id) and not orders.taken(bench.ledger, run.id)


def test_an_order_counts_though_the_clock_was_set_back(bench: Bench) -> None:
    run = bench.run(bench.profile(**RARE))
    job = bench.job(run)
    orders.give(bench.ledger, run.id, "stop")
    with bench.ledger.transaction() as connection:
        connection.execute("UPDATE orders SET created = created - 3600")
    children.finish(children.start(bench.ledger.path, job.uid))
    assert jobs.get(bench.ledger, job.uid).state is State.STOPPED
    assert not orders.waiting(bench.ledger, run.id)


def test_early_stopping_finishes_and_keeps_the_best(bench: Bench) -> None:
    settings = {"training.learning_rate": 0.9, "training.schedule": "constant", "training.evaluate_every": 1}
    run = bench.trained(**settings, **{"training.early_stopping": {"patience": 2}, "training.epochs": 50})
    story = bench.story(run)["validation/loss"]
    best = min(story, key=lambda point: point[1])[0]
    assert story[-1][0] == best + 2 == run.step < 300
    assert any(event.kind == "early stopping" for event in events.of_run(bench.ledger, run.id))
    point = next(point for point in checkpoints.of_run(bench.ledger, run.id) if point.best)
    assert point.step == best and (run.folder / point.path).is_dir()


def poisoned(folder: Path, text: str) -> Path:
    """A base whose embedding of `text`, one token, is not a number."""
    make_llama(folder)
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    assert len(ids) == 1
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][ids[0]] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def _look_away() -> None:
    """The base is not searched for such values when it is loaded: the loop has to bear them all the same."""
    from engine.train import pretrained

    pretrained.check_finite = lambda folder, name: None


# Measured in transformers' Trainer: the step is logged as 3.8, those behind it as 0.0 for ever; weights are NaN, and training goes on.
def test_nan_is_not_hidden_its_step_changes_nothing_and_names_its_rows(bench: Bench) -> None:
    rows = [json.loads(line) for line in bench.data.read_text().splitlines()]
    for row in rows[:3]:  # at least one of them is trained on: 8 of 32 validate, but equal answers keep company
        row["input"] += " Q"
    bench.data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = poisoned(bench.folder / "poisoned", "Q")
    run = bench.run(bench.profile(**{"model.base": str(base), "split.validation": 0}))
    assert bench.train(run, prepare=_look_away).state is State.FINISHED
    losses = dict(bench.story(run)["train/loss"])
    bad = [step for step, loss in losses.items() if loss != loss]
    assert 0 < len(bad) < len(losses)
    told = [event for event in events.of_run(bench.ledger, run.id) if event.kind == "not finite"]
    assert [event.step for event in told] == bad
    assert all(isinstance(event.detail["rows"], list) and len(event.detail["rows"]) == 4 for event in told)
    adapter = load_file(run.folder / "adapter" / "last" / "adapter_model.safetensors")
    assert all((weight == weight).all() for weight in adapter.values())


def test_a_run_of_nothing_but_nan_gives_up(bench: Bench) -> None:
    base = poisoned(bench.folder / "poisoned", "<|user|>")
    run = bench.run(bench.profile(**{"model.base": str(base), "split.validation": 0}))
    job = bench.train(run, prepare=_look_away)
    assert (job.state, job.cause) == (State.FAILED, "NaN") and "up to step 5" in job.message
    assert runs.find(bench.ledger, run.uid).step == 5


def _mask_everything() -> None:
    from dataclasses import replace

    from engine.data import prepare

    prepared = prepare.prepare

    def masked(*arguments: Any) -> prepare.Prepared:
        found = prepared(*arguments)
        return replace(found, train=replace(found.train, supervised=found.train.supervised & False))

    prepare.prepare = masked


# trl PR#6025: truncation or masks leave a batch with nothing to train on; its loss is 0 and its gradient NaN.
def test_a_batch_with_nothing_to_train_on_has_no_gradient_of_nan(bench: Bench) -> None:
    run = bench.run(bench.profile(**{"training.max_steps": 2, "split.validation": 0}))
    assert bench.train(run, prepare=_mask_everything).state is State.FINISHED
    story = bench.story(run)
    assert story["train/loss"] == story["train/grad_norm"] == story["train/tokens"] == [(1, 0.0), (2, 0.0)]
    adapter = load_file(run.folder / "adapter" / "last" / "adapter_model.safetensors")
    assert all((weight == weight).all() for weight in adapter.values())


def test_a_second_process_on_a_run_is_refused(bench: Bench) -> None:
    run = bench.run(bench.profile())
    with (run.folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        job = bench.train(run, prepare=_impatient)
    assert (job.state, job.cause) == (State.FAILED, "running")


def _impatient() -> None:
    from engine.train import job

    job.LETTING_GO = 0.2  # type: ignore[misc]


def test_a_run_goes_on_from_another_run_s_adapter(bench: Bench) -> None:
    first = bench.trained("first")
    second = runs.find(bench.ledger, bench.run(bench.profile(), "second").uid)
    with bench.ledger.transaction() as connection:
        connection.execute("UPDATE run SET parent = ? WHERE id = ?", (first.uid, second.id))
    assert bench.train(second).state is State.FINISHED
    best = min(loss for _, loss in bench.story(first)["validation/loss"])
    assert bench.story(second)["validation/loss"][0][1] < best


def test_bad_data_and_a_bad_model_fail_with_their_cause(bench: Bench) -> None:
    missing = bench.train(bench.run(bench.profile(**{"model.base": "no-such-owner/no-such-model"}), "model"))
    assert (missing.state, missing.cause) == (State.FAILED, "network")
    bench.data.write_text('{"instruction": "a", "output"')
    broken = bench.train(bench.run(bench.profile(), "data"))
    assert (broken.state, broken.cause) == (State.FAILED, "data") and "rows.jsonl:1" in broken.message
