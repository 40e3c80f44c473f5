"""The device a run computes on, and how torch is set up for it. Never a silent run on the CPU of a machine that has a GPU."""

from __future__ import annotations

import os

import torch

from engine.errors import Problem
from engine.gpu import gpus
from engine.profile import Hardware
from engine.train import generators

# https://docs.nvidia.com/deploy/cuda-compatibility/: the oldest driver of each CUDA family, and PyTorch's name for its wheels
WHEELS = ((580, "cu130"), (525, "cu126"))


def choose(hardware: Hardware) -> torch.device:
    """The CPU where it is asked for or where no GPU is seen, else the first GPU that this process may see.

    Raises:
        Problem: the driver shows a GPU that torch cannot use.
    """
    if hardware.device == "cpu":
        return torch.device("cpu")
    seen = gpus()
    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    if not seen and hardware.device == "auto":
        return torch.device("cpu")
    if not seen:
        raise Problem(
            "torch sees no GPU",
            "Neither does the driver.",
            "To train without one, set hardware.device = cpu",
            code="gpu",
        )
    raise unusable(seen[0].name, seen[0].driver or "")


def unusable(name: str, driver: str) -> Problem:
    """The GPU is there, torch cannot use it: say which driver, which wheel, and what to install."""
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU only"
    major = int(driver.split(".")[0]) if driver.split(".")[0].isdigit() else 0
    wheel = next((wheel for oldest, wheel in WHEELS if major >= oldest), "")
    install = f"pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/{wheel}"
    return Problem(
        f"torch cannot use the {name}",
        f"torch {torch.__version__} was built for {built}; the driver is {driver or 'unknown'}.",
        install if wheel else f"Update the NVIDIA driver to {WHEELS[-1][0]} or newer.",
        code="gpu",
    )


def set_up(device: torch.device, *, seed: int, deterministic: bool, thread_count: int) -> None:
    """Seed every generator and fix what decides the order of additions: the number of threads and the choice of kernels."""
    torch.set_num_threads(thread_count)
    generators.seed(seed)
    if deterministic and device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    if device.type == "cuda":
        # TF32, or float32 adapters beside a 16-bit base would take a large part of a step: their products leave the tensor cores.
        torch.set_float32_matmul_precision("high")
    torch.use_deterministic_algorithms(deterministic, warn_only=device.type == "cpu")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing here reads what it has not written
