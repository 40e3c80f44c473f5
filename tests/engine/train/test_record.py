"""What a run writes down about itself: tokens, padding, operations, energy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine import gpu
from engine.data import prepare
from engine.ledger import metrics, runs
from engine.train import energy, flops, model
from tests.engine.train.conftest import Bench
from tests.tiny import tiny_profile

CPU = torch.device("cpu")
LENGTHS = np.array([7, 40, 129])


def by_hand(*, trained: bool, adapter: int, supervised: int) -> float:
    """The tiny Llama's operations: 2 layers, hidden 64, 4 heads of 16, keys and values half as wide, blocks of 128, a vocabulary of 512."""
    layer = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128
    each = 6 if trained else 4
    tokens = int(LENGTHS.sum())
    attention = 3 * sum(
        2 * 2 * 64 * length * length / 2 for length in LENGTHS
    )  # q k and p v, of the pairs that are not masked
    return each * 2 * layer * tokens + 6 * adapter * tokens + 2 * attention + each * 512 * 64 * supervised


def test_operations_are_those_counted_by_hand(tiny_base: Path) -> None:
    full = model.load(tiny_profile(tiny_base, Path("rows"), **{"method.name": "full"}), CPU, vocabulary=400)
    assert flops.cost(full).of(LENGTHS, 50) == by_hand(trained=True, adapter=0, supervised=50)
    lora = model.load(tiny_profile(tiny_base, Path("rows")), CPU, vocabulary=400)
    assert flops.cost(lora).of(LENGTHS, 50) == by_hand(trained=False, adapter=lora.trainable, supervised=50)
    quantised = model.load(tiny_profile(tiny_base, Path("rows"), **{"model.quantization": "nf4"}), CPU, vocabulary=400)
    assert flops.cost(quantised) == flops.cost(lora)  # 4-bit weights count as what they stand for


def test_the_rate_of_a_card_that_ships_is_known() -> None:
    assert flops.peak("NVIDIA H100 80GB HBM3", "bfloat16") == 989.4e12
    assert flops.peak("GeForce 256", "bfloat16") is None


def test_a_run_records_what_it_computed_and_a_resumed_one_the_same(bench: Bench) -> None:
    whole = bench.trained("whole", **{"training.packing": False})
    killed = bench.run(bench.profile(**{"training.packing": False}), "killed")
    bench.train(killed, prepare=bench.at_step(killed, {8: "SIGKILL"}))
    bench.train(killed)
    work = [runs.document(bench.ledger, run).environment["work"] for run in (whole, killed)]
    assert work[0] == work[1]
    tokens = prepare.load(whole.folder).train
    assert isinstance(work[0], dict)
    assert work[0]["tokens"] == 2 * len(tokens.ids)  # two epochs
    assert work[0]["supervised"] == metrics.curve(bench.ledger, whole.id, "train/tokens").values[-1]
    padding = metrics.curve(bench.ledger, whole.id, "train/padding").values
    assert len(padding) == 12 and 0 < padding.max() < 0.5
    assert metrics.curve(bench.ledger, whole.id, "train/tflops").values.min() > 0
    assert not len(metrics.curve(bench.ledger, whole.id, "train/mfu").values)  # of a CPU no rate is known


@pytest.mark.parametrize(
    ("broken", "joules"), [("", 1000.0), ("TotalEnergy", 402.5 * 3), ("TotalEnergy,PowerUsage", None)]
)
def test_energy_is_the_driver_s_or_power_times_time(
    driver: Path, broken: str, joules: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess
    import sys

    code = """
import time
now = [100.0]
time.monotonic = lambda: now[0]
from engine.train.energy import Energy
watch = Energy(watched=True)
now[0] += 3
print(watch.read())
"""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(driver))
    monkeypatch.setenv("NVML_BROKEN", broken)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(joules)


def test_a_machine_without_a_gpu_has_no_energy() -> None:
    assert energy.Energy(watched=False).read() is None
    assert gpu.gpus() or gpu.energy_joules("GPU-0") is None
