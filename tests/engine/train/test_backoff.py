"""Out of memory in the middle of a run: it goes on in smaller pieces, means the same, and is the same when it is killed and resumed."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest
import torch

from engine.errors import Problem
from engine.ledger import checkpoints, events, jobs, orders, runs
from engine.ledger.runs import Run
from engine.ledger.states import State
from engine.train import backoff
from engine.train.batches import Layout
from tests.engine.train import children
from tests.engine.train.children import AllOf, OutOfMemory
from tests.engine.train.conftest import Bench, result_bytes
from tests.engine.train.test_batches import ragged
from tests.engine.train.test_job import until
from tests.engine.train.test_reference import preferring

SETTLED = {"training.evaluate_every": 100, "split.validation": 0}


def told(bench: Bench, run: Run, kind: str) -> list[events.Event]:
    return [event for event in events.of_run(bench.ledger, run.id) if event.kind == kind]


def test_halving_ends_at_one_example_and_at_the_longest() -> None:
    tokens = ragged([30, 50, 200, 9])

    def ladder(layout: Layout, per_example: int = 1) -> list[tuple[int, int | None]]:
        found = []
        rows = ragged([30, 50, 200, 9]) if per_example == 1 else tokens.__class__(**{**vars(tokens), "per_example": 2})
        while smaller := backoff.smaller(layout, rows):
            layout = smaller
            found.append((layout.rows_at_once, layout.row_tokens))
        return found

    assert ladder(Layout(8, 0)) == [(4, None), (2, None), (1, None)]
    assert ladder(Layout(8, 0), per_example=2) == [(4, None), (2, None)]  # chosen and rejected stay together
    assert ladder(Layout(2, 0, 700)) == [(1, 700), (1, 350), (1, 200)]


# torchtune#2078: memory ran out late, after hours, and took the run with it.
def test_out_of_memory_late_in_a_run_halves_the_micro_batch_and_a_killed_run_ends_the_same(bench: Bench) -> None:
    late = OutOfMemory(behind=4, rows=1)
    plain = bench.trained("plain", **SETTLED)
    whole = bench.run(bench.profile(**SETTLED), "whole")
    assert bench.train(whole, prepare=late).state is State.FINISHED
    expected = bench.story(whole)
    assert expected["train/loss"][:4] == bench.story(plain)["train/loss"][:4]
    assert expected["train/tokens"] == bench.story(plain)["train/tokens"]
    [event] = told(bench, whole, "memory")
    assert event.step == 4 and "2 rows at once became 1 row at once" in event.text and "2.00 GiB" in event.text
    assert event.detail == {"work": "training", "halvings": 1, "rows_at_once": 1, "row_tokens": None}

    killed = bench.run(bench.profile(**SETTLED), "killed")
    bench.train(killed, prepare=AllOf(late, bench.at_step(killed, {5: "SIGKILL"})))
    assert checkpoints.of_run(bench.ledger, killed.id)[-1].step == 3  # of before: the ledger alone knows of it
    for updates in (3, 1):  # memory is there again; once from before it, once from a checkpoint that knows of it
        bench.train(killed, prepare=bench.at_step(killed, {updates: "SIGKILL"}))
    assert bench.train(killed).state is State.FINISHED
    assert bench.story(killed) == expected and result_bytes(killed) == result_bytes(whole)
    assert len(told(bench, killed, "memory")) == 1


def test_smaller_pieces_mean_the_same(bench: Bench) -> None:
    settings = {**SETTLED, "method.dropout": 0.0, "training.micro_batch": 4}
    run = bench.run(bench.profile(**settings), "halved twice")
    assert bench.train(run, prepare=OutOfMemory(behind=0, rows=1)).state is State.FINISHED
    assert [event.detail["rows_at_once"] for event in told(bench, run, "memory")] == [2, 1]
    ours, plain = bench.story(run), bench.story(bench.trained("plain", **settings))
    assert ours["train/tokens"] == plain["train/tokens"] and ours["train/rate"] == plain["train/rate"]
    assert [loss for _, loss in ours["train/loss"]] == pytest.approx(
        [loss for _, loss in plain["train/loss"]], rel=1e-4
    )


def test_one_example_that_does_not_fit_stops_the_run_where_it_can_be_resumed(bench: Bench) -> None:
    whole = bench.run(bench.profile(**SETTLED), "whole")
    bench.train(whole, prepare=OutOfMemory(behind=4, rows=1))
    run = bench.run(bench.profile(**SETTLED), "too large")
    job = bench.train(run, prepare=OutOfMemory(behind=4, rows=0))
    assert (job.state, job.cause) == (State.FAILED, "OOM at 4")
    assert "one example" in job.message and "training.checkpoint_activations = true" in job.message
    assert checkpoints.of_run(bench.ledger, run.id)[-1].step == 4
    assert bench.train(run).state is State.FINISHED
    assert bench.story(run) == bench.story(whole) and result_bytes(run) == result_bytes(whole)


def test_validation_that_runs_out_of_memory_leaves_training_alone(bench: Bench) -> None:
    plain = bench.trained("plain")
    run = bench.run(bench.profile(), "tight")
    assert bench.train(run, prepare=OutOfMemory(behind=4, rows=1, evaluating=True)).state is State.FINISHED
    ours, theirs = bench.story(run), bench.story(plain)
    assert {key: ours[key] for key in ours if key.startswith("train/")} == {
        key: theirs[key] for key in theirs if key.startswith("train/")
    }
    assert [loss for _, loss in ours["validation/loss"]] == pytest.approx(
        [loss for _, loss in theirs["validation/loss"]], rel=1e-5
    )
    assert [event.detail["work"] for event in told(bench, run, "memory")] == ["validation"]


def test_a_reference_that_runs_out_of_memory_is_computed_in_smaller_pieces(bench: Bench) -> None:
    asked = preferring(bench, **{"training.micro_batch": 4, "training.max_steps": 2, "split.validation": 0})
    plain, run = bench.run(asked, "plain"), bench.run(asked, "tight")
    assert bench.train(plain).state is State.FINISHED
    assert bench.train(run, prepare=OutOfMemory(behind=0, rows=2, evaluating=True)).state is State.FINISHED
    assert [event.detail["work"] for event in told(bench, run, "memory")] == ["reference"]
    ours, theirs = bench.story(run), bench.story(plain)
    assert [loss for _, loss in ours["train/loss"]] == pytest.approx(
        [loss for _, loss in theirs["train/loss"]], rel=1e-4
    )


class CrowdedGpu:
    """In the child: a driver whose GPU 0 is this run's; once memory runs out somebody else holds 4,000 MiB more, until it was waited for.

    `stays`: for ever.
    """

    def __init__(self, driver: Path, *, stays: bool = False) -> None:
        self.driver = driver
        self.stays = stays

    def __call__(self) -> None:
        """Load the driver and take note of the moment."""
        import pynvml

        from engine.gpu import Gpu, gpus
        from engine.train import neighbours
        from engine.train.loop import Loop

        pynvml.nvmlLib = ctypes.CDLL(str(self.driver / "libnvidia-ml.so.1"))

        def first(_: neighbours.Neighbours) -> Gpu:
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # which hides all of them from a run on the CPU
            return gpus()[0]

        neighbours.Neighbours._gpu = first  # type: ignore[assignment, method-assign]
        free = backoff.free

        def crowded(model: torch.nn.Module) -> None:
            free(model)
            os.environ["NVML_USED"] = "8000"

        waiting = Loop._wait

        def waited(loop: Loop, what: str) -> None:
            waiting(loop, what)
            if not self.stays:
                os.environ["NVML_USED"] = "4000"

        backoff.free, Loop._wait = crowded, waited  # type: ignore[method-assign]


def test_others_who_grew_on_the_gpu_are_waited_for_and_named(bench: Bench, driver: Path) -> None:
    plain = bench.trained("plain", **SETTLED)
    run = bench.run(bench.profile(**SETTLED), "crowded")
    once = OutOfMemory(behind=4, rows=1, times=1)
    assert bench.train(run, prepare=AllOf(once, CrowdedGpu(driver))).state is State.FINISHED
    [event] = told(bench, run, "waiting")
    assert event.step == 4 and "process 4194304 with 2.0 GiB" in event.text
    assert not told(bench, run, "memory")
    assert bench.story(run) == bench.story(plain) and result_bytes(run) == result_bytes(plain)


@pytest.mark.parametrize("how", ["stop", "SIGTERM"])
def test_waiting_for_memory_can_be_stopped(bench: Bench, driver: Path, how: str) -> None:
    run = bench.run(bench.profile(**SETTLED), "crowded")
    once = OutOfMemory(behind=4, rows=1, times=1)
    job = bench.job(run)
    child = children.start(bench.ledger.path, job.uid, prepare=AllOf(once, CrowdedGpu(driver, stays=True)))
    until(lambda: "GPU memory" in jobs.get(bench.ledger, job.uid).doing)
    if how == "stop":
        orders.give(bench.ledger, run.id, "stop")
    else:
        assert child.pid
        os.kill(child.pid, 15)
    children.finish(child)
    assert jobs.get(bench.ledger, job.uid).state is State.STOPPED
    assert checkpoints.of_run(bench.ledger, run.id)[-1].step == runs.find(bench.ledger, run.uid).step == 4


def test_an_update_that_ran_out_of_memory_before_it_moved_anything_is_as_if_it_never_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def moved(times: int) -> list[torch.Tensor]:
        torch.manual_seed(1)
        weights = [torch.nn.Parameter(torch.randn(3, 4)) for _ in range(3)]
        for weight in weights:
            weight.grad = torch.randn_like(weight)
        optimizer = torch.optim.AdamW(weights, lr=0.1, fused=True)
        make, made = torch.zeros_like, 0

        def failing(*arguments: object, **named: object) -> torch.Tensor:
            nonlocal made
            made += 1
            if made == 4:  # the second weight has half of its state
                raise torch.OutOfMemoryError("CUDA out of memory")
            return make(*arguments, **named)  # type: ignore[arg-type]

        for _ in range(times):
            monkeypatch.setattr(torch, "zeros_like", failing)
            with pytest.raises(torch.OutOfMemoryError):
                backoff.update(optimizer)
            assert not optimizer.state
            monkeypatch.setattr(torch, "zeros_like", make)
        backoff.update(optimizer)
        return [weight.detach() for weight in weights]

    assert all(torch.equal(one, other) for one, other in zip(moved(0), moved(1), strict=True))


def test_an_update_that_ran_out_of_memory_half_way_is_not_gone_on_from(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.optimization import Adafactor

    weights = [torch.nn.Parameter(torch.randn(3, 4)) for _ in range(3)]
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    optimizer = Adafactor(weights, lr=0.1, scale_parameter=False, relative_step=False)  # type: ignore[no-untyped-call]
    squared = Adafactor._approx_sq_grad
    calls = iter(range(9))

    def failing(*arguments: object) -> torch.Tensor:
        if next(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return squared(*arguments)  # type: ignore[no-any-return, no-untyped-call]

    monkeypatch.setattr(Adafactor, "_approx_sq_grad", staticmethod(failing))
    with pytest.raises(Problem, match="while the weights were moved"):
        backoff.update(optimizer)
