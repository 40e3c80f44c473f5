"""The benchmark's GPU part, on a CPU: it has to work the first time that somebody has a GPU."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

import pytest
import torch

from tests.benchmarks import on_gpu
from tests.benchmarks.marks import Marks
from tests.benchmarks.on_gpu import Machine

OPTIONS = argparse.Namespace(warm_up=1, steps=1)


def test_without_a_gpu_the_part_says_that_it_was_left_out(tmp_path: Path) -> None:
    assert on_gpu.figures(OPTIONS, tmp_path, False, Machine(())) == {"gpu": "left out: no CUDA device"}


def test_the_part_runs_end_to_end_on_a_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several processes as well: `python -m tests.benchmarks.on_gpu`."""
    monkeypatch.setattr(on_gpu, "BATCH", 8)
    threads = torch.get_num_threads()
    with contextlib.redirect_stdout(sys.stderr):
        try:
            found = on_gpu.figures(OPTIONS, tmp_path, False, Machine((), stand_in=True))["gpu"]
        finally:
            torch.set_num_threads(threads)
    assert found["replicate"] == found["shard"] == "left out: one process"
    for method in ("lora", "full"):
        for who in ("ours", "padded"):
            assert 0 < found[method][who]["supervised_per_second"] < found[method][who]["tokens_per_second"]


def test_what_does_not_fit_is_left_out_with_the_reason() -> None:
    def too_large() -> Marks:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore.")

    found = on_gpu.measured(too_large, Machine((), stand_in=True))
    assert found == {"left_out": "CUDA out of memory. Tried to allocate 2 GiB."}
