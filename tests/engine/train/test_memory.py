"""What a run says of its memory: the costliest micro-batch, peaks by phase, and whose figure the process's is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.fit import recorded
from engine.fit.question import Phase, Step
from engine.gpu import Gpu
from engine.ledger import runs
from engine.profile import Training
from engine.train import batches, memory
from engine.train.batches import Layout
from engine.train.memory import MemoryWatch
from engine.train.rehearse import largest
from tests.engine.train.conftest import Bench
from tests.engine.train.test_batches import ragged

CUDA = torch.device("cuda", 0)


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(2, 90), min_size=1, max_size=24),
    at_once=st.integers(1, 4),
    batch=st.integers(1, 12),
    packing=st.sampled_from(["padded", "rows", "flat"]),
)
def test_no_step_has_a_larger_micro_batch_than_the_one_that_is_recorded(
    lengths: list[int], at_once: int, batch: int, packing: str
) -> None:
    tokens = ragged(lengths)
    layout = Layout(at_once, 0, None if packing == "padded" else 100, flat=packing == "flat")
    training = Training(effective_batch=batch, micro_batch=at_once, checkpoint_activations=False)
    found = largest(tokens, layout, training, 1)
    groups = [
        list(batches.micro_batches(tokens, batches.examples_of_step(len(lengths), step, training), layout))
        for step in range(1, batches.steps_per_epoch(len(lengths), training) + 1)
    ]
    most = max(each.ids.numel() for group in groups for each in group)
    assert found.packed == (packing != "padded")
    if packing == "padded":  # its rows may belong to different steps
        assert found.rows * found.tokens >= most
        assert found.accumulates == any(len(group) > 1 for group in groups)
    else:
        assert found.rows * found.tokens <= at_once * 100
        assert found.accumulates >= any(len(group) > (1 if packing == "flat" else 2) for group in groups)


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[float, float]]]:
    """What torch's allocator would say at the next laps: (allocated, reserved) in MiB, first to last."""
    said: list[tuple[float, float]] = []
    monkeypatch.setattr(MemoryWatch, "_taken", lambda self: said.pop(0))
    yield said
    assert not said, "it was not asked so often"


def test_peaks_are_told_apart_by_phase_and_a_failed_attempt_is_left_out(
    on_gpu: list[tuple[float, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = Gpu("GPU-1", 0, "T4", own_mib=1240.0)
    monkeypatch.setattr(memory, "first", lambda: gpu)
    watch = MemoryWatch(CUDA, context_mib=141.0)
    on_gpu += [(500, 600), (800, 900), (9000, 9500), (950, 1100), (700, 1100), (850, 1100)]
    watch.lap(Phase.LOAD)
    watch.lap(Phase.FORWARD)
    watch.forget()
    watch.lap(Phase.BACKWARD)
    watch.lap(Phase.STEP)
    watch.lap(Phase.FORWARD)
    assert watch.read() == {"memory/process_mib": 1240.0, "memory/allocated_mib": 950, "memory/reserved_mib": 1100}
    found = watch.figures()
    assert found.phases == {"load": (500, 600), "forward": (850, 1100), "backward": (950, 1100), "step": (700, 1100)}
    assert (found.allocated_mib, found.reserved_mib, found.process_mib) == (950, 1100, 1240.0)
    assert (found.source, found.context_mib) == ("driver", 140.0)

    resumed = MemoryWatch(CUDA, context_mib=141.0, before=found)
    on_gpu.append((400, 600))
    resumed.lap(Phase.LOAD)
    assert resumed.figures() == found, "a resumed run took what it took before"


def test_where_the_driver_knows_no_pids_the_kept_context_is_added_and_without_it_nothing_is_claimed(
    on_gpu: list[tuple[float, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "first", lambda: Gpu("GPU-1", 0, "T4", own_mib=0.0))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 1000 << 20)
    on_gpu += [(800, 1000)] * 2
    for context, process, source in ((141.0, 1141.0, "context"), (None, None, "")):
        watch = MemoryWatch(CUDA, context_mib=context)
        watch.lap(Phase.FORWARD)
        watch.look()
        found = watch.figures()
        assert (found.process_mib, found.source, found.context_mib) == (process, source, context)
        assert (found.allocated_mib, found.reserved_mib) == (800, 1000)


def test_a_run_on_the_cpu_records_its_costliest_step_and_its_process(bench: Bench) -> None:
    run = bench.trained()
    found = recorded.of(runs.document(bench.ledger, run).environment)
    assert found.predicted is None, "nobody predicted it"
    assert found.step is not None and found.measured is not None
    assert (found.step.rows, found.step.packed, found.step.checkpointing, found.step.accumulates) == (
        2,
        False,
        False,
        True,
    )
    assert 0 < found.step.supervised < found.step.rows * found.step.tokens
    assert (found.measured.source, found.measured.allocated_mib) == ("resident", None), "torch counts nothing on a CPU"
    assert found.measured.process_mib == pytest.approx(run.measured_mib)
    assert found.measured.context_mib is not None
    assert 50 < found.measured.context_mib < found.measured.process_mib, "the libraries' share"


def test_what_is_recorded_is_read_back_and_strangers_have_none() -> None:
    figures = recorded.Figures("simulated", 800.0, 1000.0, 1141.0, 141.0, {"load": (1.0, 2.0)})
    step = Step(2, 128, 40, False, True, False)
    assert recorded.of(recorded.kept(predicted=figures, step=step)) == recorded.Recorded(figures, None, step)
    assert recorded.of({"host": "box"}) == recorded.Recorded() == recorded.of({"memory": "81%"})


ASK = """
import json, os, sys
os.environ["NVML_PID"] = str(os.getpid())
import torch
from dataclasses import asdict
from engine.train import context
from engine.train.memory import MemoryWatch
torch.cuda.memory_reserved = lambda device: 500 << 20
watch = MemoryWatch(torch.device("cuda", 0), context_mib=141.0)
watch.look()
gpu, steady = context._looked()
print(json.dumps([asdict(watch.figures()), context.outside(gpu, gpu, 500.0, steady=steady)] if gpu else [asdict(watch.figures())]))
"""


@pytest.mark.parametrize(
    ("broken", "process", "source", "outside"),
    [
        ("", 1024.0, "driver", [524.0, ""]),
        ("Processes", 641.0, "context", "no sense"),
        ("Processes,MemoryInfo", 641.0, "context", None),
    ],
)
def test_through_the_driver_s_binding(
    driver: Path, broken: str, process: float, source: str, outside: list[object] | str | None
) -> None:
    """This process holds 1,024 MiB, says the driver of the tests; or it says nothing of processes, or of memory either."""
    settings = {"LD_LIBRARY_PATH": str(driver), "NVML_BROKEN": broken}
    environment = {**os.environ, **settings}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    done = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True)
    figures, *measured = json.loads(done.stdout)
    assert (figures["process_mib"], figures["source"]) == (process, source)
    if outside is None:
        assert not measured
    elif isinstance(outside, str):
        assert outside in measured[0][1]
    else:
        assert measured == [outside]
