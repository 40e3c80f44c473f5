"""GPUs through the real NVML binding, which loads a small driver that is compiled here: no GPU is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.gpu import short_names

ASK = """
import dataclasses, json
from engine import gpu
print(json.dumps([[dataclasses.asdict(found) for found in gpu.gpus()], gpu.why_none()]))
"""


def ask(driver: Path, **settings: str) -> tuple[list[dict[str, object]], str]:
    """What a fresh process sees; the loader reads its path only at start."""
    environment = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    environment |= {"LD_LIBRARY_PATH": str(driver), "NVML_PID": str(os.getpid()), **settings}
    done = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True)
    found, why = json.loads(done.stdout)
    return found, why


def test_every_figure_comes_through_the_binding(driver: Path) -> None:
    found, why = ask(driver)
    assert why == ""
    first, second = found
    assert first == {
        "uuid": "GPU-00000000-0000-1111-2222-333333333333",
        "index": 0,
        "name": "GeForce RTX 4090",
        "total_mib": 24564.0,
        "used_mib": 4000.0,
        "free_mib": 20064.0,
        "mine_mib": 1024.0,  # this test's process; the rest is others'
        "own_mib": 0.0,  # the process that asks is another
        "others_mib": 2976.0,
        "watts": 402.5,
        "celsius": 73,
        "busy_percent": 97,
        "driver": "580.95.05",
        "capability": [8, 9],
    }
    assert (second["name"], second["mine_mib"], second["others_mib"]) == ("H200", 0.0, 100000.0)


def test_a_figure_that_the_driver_does_not_answer_leaves_the_others(driver: Path) -> None:
    found, _ = ask(driver, NVML_BROKEN="PowerUsage,Temperature,Processes,DriverVersion")
    first = found[0]
    assert [first[key] for key in ("watts", "celsius", "mine_mib", "others_mib", "driver")] == [None] * 5
    assert first["free_mib"] == 20064.0
    assert first["busy_percent"] == 97


def test_a_gpu_that_fell_off_the_bus_does_not_hide_the_other(driver: Path) -> None:
    found, _ = ask(driver, NVML_LOST="0")
    assert [(entry["name"], entry["total_mib"]) for entry in found] == [("does not answer", None), ("H200", 143771.0)]


@pytest.mark.parametrize(
    ("chosen", "indices"),
    [
        ("1,0", [1, 0]),
        ("GPU-00000001", [1]),
        ("0,7,1", [0]),  # CUDA stops at the first that is not there
        ("", []),
        ("-1", []),
        ("0,0", []),
    ],
)
def test_cuda_visible_devices_is_respected(driver: Path, chosen: str, indices: list[int]) -> None:
    found, why = ask(driver, CUDA_VISIBLE_DEVICES=chosen)
    assert [entry["index"] for entry in found] == indices
    assert ("hides the 2 GPUs" in why) == (not indices)


def test_why_there_is_none_is_said(driver: Path, tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").touch()  # no library: the same answer on machines that have a driver
    assert ask(tmp_path) == ([], "There is no NVIDIA driver on this machine (libnvidia-ml.so.1 was not found).")
    assert ask(driver, NVML_INIT="9") == ([], "The NVIDIA driver does not answer: Driver Not Loaded.")
    assert ask(driver, NVML_DEVICES="0") == ([], "The NVIDIA driver is there, but it sees no GPU.")
    _, why = ask(driver, CUDA_VISIBLE_DEVICES="MIG-12")
    assert "hides" in why


def test_a_divided_gpu_is_its_slices(driver: Path) -> None:
    found, _ = ask(driver, NVML_MIG="2")
    assert [entry["uuid"][:12] for entry in found] == ["MIG-00000008", "MIG-00000009", "GPU-00000001"]
    first = found[0]
    assert (first["index"], first["name"]) == (0, "A100-SXM4-40GB MIG 3g.20gb")
    assert (first["total_mib"], first["free_mib"], first["watts"]) == (20096.0, 20058.0, None)
    (one,), _ = ask(driver, NVML_MIG="2", CUDA_VISIBLE_DEVICES="MIG-00000009")
    assert one["uuid"] == found[1]["uuid"]
    (one,), _ = ask(driver, NVML_MIG="2", CUDA_VISIBLE_DEVICES="0")  # as CUDA takes it
    assert one["uuid"] == found[0]["uuid"]


def test_what_a_run_was_trained_on_is_said_shortly() -> None:
    said = {
        ("NVIDIA H200",): "H200",
        ("NVIDIA GeForce RTX 4090",) * 2: "2x RTX 4090",
        ("NVIDIA A100-SXM4-80GB", "NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3"): "2x A100 80GB, H100 80GB",
        ("NVIDIA RTX 6000 Ada Generation",): "RTX 6000 Ada",
        ("Tesla T4",): "T4",
        ("NVIDIA H100 PCIe",): "H100",
        (): "cpu",
    }
    assert {names: short_names(names) for names in said} == said
