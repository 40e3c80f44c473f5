"""Checkpoints: everything that decides how a run goes on, so that a resumed run ends as one that was never interrupted.

A checkpoint is a folder `step-000050` with the trained weights, the optimizer's state and the random generators' as safetensors, the
rest as JSON, and a manifest of hashes. Pickle is nowhere. The newest one whose hashes are right is taken on resume.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine import folders
from engine.errors import Problem
from engine.gpu import MIB
from engine.train import generators
from engine.train import optimizer as optimizers
from engine.train.identity import Identity
from engine.train.ranks import ALONE, Ranks
from engine.train.sharded import part, whole

SPARE: Final = 1.05  # a checkpoint may be this much larger than what its tensors hold


@dataclass
class Progress:
    """Where a run is; all of it is saved. `step` counts finished optimizer steps and is the whole cursor into the data."""

    step: int = 0
    tokens: int = 0  # supervised, so far
    read: int = 0  # all tokens that were read, without padding
    flops: float = 0.0  # floating-point operations of the model's own arithmetic
    best_step: int = 0  # 0: no validation yet
    best_loss: float | None = None
    worse: int = 0  # validations since the best
    not_finite: int = 0  # steps in a row without an update
    rate_factor: float = 1.0  # by order, on top of the schedule
    order: int = 0  # id of the last order that is in effect
    validated: int = 0  # step of the last validation
    validation: float | None = None  # and its loss
    stopped_early: bool = False
    scale: float = 2.0**16  # of float16's gradients; GradScaler begins with it too
    scaled: int = 0  # steps since it changed
    halvings: dict[str, int] = field(default_factory=dict)  # of the micro-batch, by what ran out of memory


@dataclass(frozen=True)
class Found:
    """The newest checkpoint that is whole (None: there is none), and newer ones that are damaged with what is wrong with them."""

    path: Path | None
    damaged: dict[Path, str]


def name(step: int) -> str:
    """The folder of the checkpoint after `step` optimizer steps."""
    return f"step-{step:06d}"


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that training changes, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def save(
    parent: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    *,
    made: Identity | None = None,
    before_rename: Callable[[], None],
    ranks: Ranks = ALONE,
) -> tuple[Path, int]:
    """Write the checkpoint of this moment; returns its folder and bytes. `before_rename` commits what must not be newer than it.

    `made` is what it was made with, for `identity`. All `ranks` have to call it; the first writes.

    Raises:
        Problem: there is too little room for it, or it would hold numbers that are not finite; the last checkpoint is as it was.
        OSError: the disk filled up while writing; likewise.
    """
    weights, tensors, numbers = collected(model, optimizer, keep=ranks.writes)
    drawn, drawn_otherwise = generators.of_ranks(ranks)
    folder = parent / name(progress.step)
    if not ranks.writes:
        return folder, 0
    check_finite(progress.step, {**weights, **tensors})
    _check_room(parent, progress.step, [*weights.values(), *tensors.values()])

    def write(folder: Path) -> None:
        # Bytes are written by this process's own calls, not through a memory map: a full disk is then an error, not a signal.
        save_file(weights, folder / "weights.safetensors")
        save_file(tensors, folder / "optimizer.safetensors")
        save_file(drawn, folder / "generators.safetensors")
        state = {
            "progress": asdict(progress),
            "optimizer": numbers,
            "generators": drawn_otherwise,
            "identity": asdict(made) if made else None,
        }
        (folder / "state.json").write_text(json.dumps(state))

    return folder, folders.publish(folder, write, before_rename=before_rename)


def collected(
    model: nn.Module, optimizer: torch.optim.Optimizer, *, keep: bool = True
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, optimizers.Number]]:
    """What a checkpoint holds of model and optimizer, in main memory: trained weights, the state's tensors, its numbers.

    Where weights are cut all ranks have to ask; one that does not `keep` what it is given gets nothing.
    """
    weights = {}
    for key, parameter in trained(model).items():
        full = whole(parameter.detach())
        if keep:
            weights[key] = full.to("cpu").contiguous()
    return weights, *optimizers.state(optimizer, keep=keep)


def newest(parent: Path) -> Found:
    """The newest whole checkpoint, looking at hashes, newest first."""
    damaged: dict[Path, str] = {}
    for folder in sorted(parent.glob("step-*"), key=step_of, reverse=True):
        wrong = folders.damage(folder)
        if not wrong:
            return Found(folder, damaged)
        damaged[folder] = wrong
    return Found(None, damaged)


def put_aside(folder: Path) -> Path:
    """Rename a damaged checkpoint, so that it no longer counts as one of the newest, and keep it for people to look at."""
    aside = folder.with_name(f"damaged-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    return folder.rename(aside)


def identity(folder: Path) -> Identity | None:
    """What a checkpoint was made with; None where it does not say."""
    found = json.loads((folder / "state.json").read_text()).get("identity")
    return Identity(**found) if found else None


def restore(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, ranks: Ranks = ALONE) -> Progress:
    """Put weights, optimizer and random generators back as they were; returns where the run was."""
    restore_weights(folder, model)
    state: dict[str, Any] = json.loads((folder / "state.json").read_text())
    optimizers.restore(optimizer, load_file(folder / "optimizer.safetensors"), state["optimizer"])
    generators.restore_rank(ranks, load_file(folder / "generators.safetensors"), state["generators"])
    return Progress(**state["progress"])


def restore_weights(folder: Path, model: nn.Module) -> None:
    """Put only the trained weights back."""
    saved = load_file(folder / "weights.safetensors")
    with torch.no_grad():
        for key, parameter in trained(model).items():
            parameter.copy_(part(saved[key], parameter))


def prune(parent: Path, *, keep: int, best_step: int, forget: Callable[[int], None]) -> None:
    """Remove all but the newest `keep` checkpoints and the best; `forget` takes a step out of the ledger before its files go."""
    found = sorted(parent.glob("step-*"), key=step_of)
    for folder in found[: max(0, len(found) - keep)]:
        if step_of(folder) != best_step:
            forget(step_of(folder))
            shutil.rmtree(folder)


def step_of(folder: Path) -> int:
    """The optimizer steps behind a checkpoint's folder; -1 for one that is not named like a checkpoint."""
    digits = folder.name.removeprefix("step-")
    return int(digits) if digits.isdigit() else -1


def check_finite(step: int, tensors: Mapping[str, Tensor]) -> None:
    """A poisoned checkpoint would take the place of a good one, and every step after a resume would be as bad.

    Raises:
        Problem: code `NaN`.
    """
    bad = [key for key, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if bad:
        raise Problem(
            f"{len(bad)} of {len(tensors)} tensors are not finite after step {step}: its checkpoint was not written",
            f"The first is {bad[0]}. The checkpoint before is good.",
            "Start the profile anew with a lower training.learning_rate; bfloat16 overflows later than float16.",
            code="NaN",
        )


def _check_room(parent: Path, step: int, tensors: list[Tensor]) -> None:
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    needed = SPARE * sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise Problem(
            f"The disk is full: the checkpoint at step {step} was not written",
            f"It needs {needed / MIB:.1f} MiB, {free / MIB:.1f} MiB are free at {parent}. The one before it is whole.",
            "Free some space or lower training.keep, then resume the run.",
            code="disk",
        )
