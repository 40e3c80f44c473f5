"""What CUDA holds of a GPU is measured once for a GPU, driver and torch, by a process of its own, and kept; nothing sensible is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import Problem
from engine.fit import context
from engine.fit.cards import Card, named, spec_of
from engine.fit.history import context_mib
from engine.gpu import Gpu
from engine.ledger import Ledger, contexts
from engine.ledger.contexts import Context
from engine.ledger.merging import merge

GPU = Gpu("GPU-00000000-0000", 0, "GeForce RTX 4090", driver="580.95.05")


def measures(monkeypatch: pytest.MonkeyPatch, **told: object) -> None:
    """Have the measuring process print this; it counts how often it was started in the file CALLS."""
    script = f"import os; open(os.environ['CALLS'], 'a').write('x'); print({json.dumps(json.dumps(told))})"
    monkeypatch.setattr(context, "MEASURE", (sys.executable, "-c", script))


def test_it_is_measured_once_for_a_gpu_and_its_driver(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    monkeypatch.setenv("CALLS", str(calls))
    measures(monkeypatch, mib=422.5, workspace_mib=16.25)
    assert context.of_gpu(ledger, GPU) is None
    first = context.ensured(ledger, GPU)
    assert (first.mib, first.workspace_mib, first.name, first.driver) == (422.5, 16.25, GPU.name, GPU.driver)
    assert context.ensured(ledger, GPU) == first == context.of_gpu(ledger, GPU)
    assert calls.read_text() == "x"
    measures(monkeypatch, mib=430.0, workspace_mib=16.25)
    newer = Gpu(GPU.uuid, 0, GPU.name, driver="590.10")
    assert context.ensured(ledger, newer).mib == 430.0
    assert context.of_gpu(ledger, GPU) == first, "each driver has its own"
    assert contexts.listed(ledger)[0] == context.of_gpu(ledger, newer)


def test_a_gpu_of_the_same_kind_stands_in_for_one_that_was_not_measured(ledger: Ledger) -> None:
    for number, mib in enumerate((400.0, 410.0)):
        contexts.keep(ledger, Context(f"GPU-{number}", "580", "2.13.0", "H100 80GB HBM3", mib, 64.0, float(number)))
    here = Card("H100 80GB HBM3", "GPU-0", 81_559, 80_000, spec_of("H100 80GB HBM3"))
    planned = named("H100")
    assert here.spec == planned.spec
    found = [context_mib(ledger, card) for card in (here, replace(here, uuid="GPU-2"), planned, named("T4"))]
    assert found == [400.0, 410.0, 410.0, None]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ('print(\'{"problem": "Others use the GPU."}\')', "Others use the GPU."),
        ("import sys; sys.exit('RuntimeError: no kernel image is available')", "no kernel image is available"),
        ("import os; os._exit(9)", "ended with 9"),
        ("import time; time.sleep(60)", "No answer within"),
    ],
)
def test_what_cannot_be_measured_is_said_and_nothing_is_kept(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, script: str, why: str
) -> None:
    monkeypatch.setattr(context, "MEASURE", (sys.executable, "-c", script))
    monkeypatch.setattr(context, "PATIENCE", 5.0)
    with pytest.raises(Problem) as caught:
        context.ensured(ledger, GPU)
    assert why in caught.value.why
    assert caught.value.code == "gpu"
    assert contexts.listed(ledger) == []


def test_a_gpu_that_is_nearly_full_is_left_alone(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    measures(monkeypatch, mib=422.5, workspace_mib=16.25)
    with pytest.raises(Problem) as caught:
        context.ensured(ledger, replace(GPU, free_mib=900.0))
    assert "Only 900 MiB" in caught.value.why
    monkeypatch.setenv("CALLS", os.devnull)
    assert context.ensured(ledger, replace(GPU, free_mib=9000.0)).mib == 422.5


def test_the_measuring_process_says_where_torch_cannot_use_the_gpu(driver: Path) -> None:
    """The driver of the tests shows GPUs that nothing can compute on."""
    done = subprocess.run(
        context.MEASURE, env={**os.environ, "LD_LIBRARY_PATH": str(driver)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "CUDA" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_steps_that_load_the_kernels_work_in_each_type(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    """On the CPU, which has the same operations."""
    import torch

    from engine.train import context as measuring

    for name, value in {"DEVICE": torch.device("cpu"), "SIZE": 16, "WORDS": 32, "ROWS": (2, 8)}.items():
        monkeypatch.setattr(measuring, name, value)
    measuring._train(getattr(torch, dtype))


def test_the_process_is_told_from_the_others_on_the_gpu() -> None:
    from engine.train.context import outside

    before = Gpu("GPU-1", 0, "T4", used_mib=3000.0)
    named = Gpu("GPU-1", 0, "T4", used_mib=9000.0, own_mib=300.0)
    unnamed = Gpu("GPU-1", 0, "T4", used_mib=3300.0, own_mib=0.0)  # a container: the driver knows no pid of ours
    assert outside(before, named, 160.0, steady=False) == (140.0, "")
    assert outside(before, unnamed, 160.0, steady=True) == (140.0, "")
    assert outside(before, unnamed, 160.0, steady=False)[1].startswith("Others use the GPU")
    assert "no sense" in outside(before, before, 160.0, steady=True)[1]


def test_what_was_measured_elsewhere_comes_along_with_merged_runs(ledger: Ledger, tmp_path: Path) -> None:
    def told(uuid: str, mib: float, measured: float) -> Context:
        return Context(uuid, "580", "2.13.0", "H200", mib, 64.0, measured)

    with Ledger.open(tmp_path / "other.db") as other:
        for each in (told("GPU-1", 400.0, 1.0), told("GPU-2", 410.0, 1.0), told("GPU-3", 420.0, 9.0)):
            contexts.keep(other, each)
    contexts.keep(ledger, told("GPU-2", 500.0, 5.0))
    contexts.keep(ledger, told("GPU-3", 500.0, 5.0))
    for _ in range(2):
        merge(ledger, tmp_path / "other.db")
        found = {each.uuid: each.mib for each in contexts.listed(ledger)}
        assert found == {"GPU-1": 400.0, "GPU-2": 500.0, "GPU-3": 420.0}, "of one GPU the newer"
