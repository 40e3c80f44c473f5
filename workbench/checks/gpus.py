"""GPUs as the driver sees them, whether torch - asked in a process of its own - can use them, and what CUDA itself holds of each."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from engine import gpu
from engine.errors import Problem
from engine.fit import context
from engine.ledger import Ledger
from workbench.checks import Check

TORCH_PATIENCE: Final = 90.0  # seconds: a cold import from a slow disk takes long
ASK_TORCH: Final = """
import json, warnings
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    import torch
    usable = torch.cuda.is_available()
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if usable else []
    bfloat16 = usable and torch.cuda.is_bf16_supported()
    if usable:
        torch.ones(8, device="cuda").sum().item()
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "names": names, "bfloat16": bfloat16,
                  "told": " ".join(str(warning.message) for warning in told)}))
"""


@dataclass(frozen=True)
class Torch:
    """What torch says of itself: its version, the CUDA it was built for (None: for CPU only), the GPUs that it can use, or a complaint."""

    version: str = ""
    cuda: str | None = None
    names: tuple[str, ...] = ()
    bfloat16: bool = False
    told: str = ""


def check_all(ledger: Path) -> Iterator[Check]:
    """The driver, every GPU, and torch's view of them; what CUDA holds of each is kept in the ledger, where there is one."""
    found = gpu.gpus()
    if not found:
        yield Check("gpu", True, f"{gpu.why_none()} Runs use the CPU.")
    else:
        yield Check("driver", True, f"NVIDIA {found[0].driver or 'of unknown version'}")
    yield from (check_gpu(one) for one in found)
    if find_spec("torch") is None:
        return  # the libraries' check has said so
    torch = ask_torch()
    yield check_torch(torch, len(found))
    if torch.names:
        yield from (check_context(one, ledger) for one in found)


def check_gpu(one: gpu.Gpu) -> Check:
    """A GPU's name and memory, and whether somebody else fills it."""
    if one.total_mib is None:
        return Check(
            f"gpu {one.index}", False, f"{one.name}: the driver does not say how much memory it has", "Try nvidia-smi."
        )
    free = one.free_mib or 0.0
    others = one.others_mib or 0.0
    shown = f"{one.name}, {free / 1024:.1f} of {one.total_mib / 1024:.1f} GiB free"
    crowded = others > one.total_mib / 2
    return Check(
        f"gpu {one.index}",
        not crowded,
        shown + (f", {others / 1024:.1f} GiB used by others" if others >= 512 else ""),
        "Somebody else uses most of it: choose another, or start runs with --queue." if crowded else "",
    )


def check_context(one: gpu.Gpu, path: Path) -> Check:
    """What CUDA holds of a GPU for each process, measured now where it was not before: predictions of memory count it."""
    name = f"gpu {one.index} context"
    try:
        with Ledger.open(path) if path.exists() else nullcontext() as ledger:
            found = context.ensured(ledger, one) if ledger else context.measured(one)
    except Problem as problem:
        return Check(name, False, f"{problem.what}: {problem.why}", "Look again when nobody else uses it.")
    when = time.strftime("%Y-%m-%d", time.localtime(found.measured))
    held = f"CUDA holds {found.mib:,.0f} MiB for each process, cuBLAS {found.workspace_mib:,.0f} of what torch does"
    return Check(name, True, f"{held}; measured {when} with torch {found.torch}")


def ask_torch() -> Torch:
    """Torch's answers, from a child process so that this one stays light."""
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-c", ASK_TORCH], capture_output=True, text=True, timeout=TORCH_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return Torch(told=f"no answer within {TORCH_PATIENCE:.0f} s")
    if child.returncode:
        lines = child.stderr.strip().splitlines()
        return Torch(told=lines[-1] if lines else f"it ended with {child.returncode}")
    answers = json.loads(child.stdout.splitlines()[-1])
    return Torch(**{**answers, "names": tuple(answers["names"])})


def check_torch(torch: Torch, gpu_count: int) -> Check:
    """Whether torch can use the GPUs that the driver sees."""
    if not torch.version:
        return Check(
            "torch", False, f"cannot be imported: {torch.told}", "Install it again: pip install --force-reinstall torch"
        )
    built = f"{torch.version}, built for {'CUDA ' + torch.cuda if torch.cuda else 'the CPU only'}"
    if not gpu_count:
        return Check("torch on gpu", True, built)
    if torch.names:
        number = f"{len(torch.names)} GPU{'s' if len(torch.names) > 1 else ''}"
        narrow = "" if torch.bfloat16 else "; no bfloat16: set model.dtype to float16 or float32"
        return Check("torch on gpu", True, f"{built}; can use {number}{narrow}")
    if torch.cuda is None:
        advice = (
            "Install the build for CUDA: pip uninstall torch, then pip install torch (without an index of your own)."
        )
    else:
        advice = f"Update the NVIDIA driver to one that supports CUDA {torch.cuda}, or install a torch built for an older CUDA."
    return Check("torch on gpu", False, f"{built}; cannot use the GPU{': ' + torch.told if torch.told else ''}", advice)
