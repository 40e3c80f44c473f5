"""A model as a run trains it, and as its result is asked: the base with what the method adds. The parts are in `pretrained` and `adapter`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel

from engine import profile
from engine.errors import Problem
from engine.train import adapter, anatomy, pretrained, quantized
from engine.train.pretrained import load_base
from engine.train.quantized import DTYPES


@dataclass(frozen=True)
class Loaded:
    """A model ready to train. `trainable` and `total` count parameters (4-bit ones as what they stand for).

    `autocast` is the compute type where weights that it computes with are kept in float32 to be trained: all under method full, modules
    that are trained whole and biases under lora and ia3. None where the model computes as it is.
    """

    model: PreTrainedModel | PeftModel
    device: torch.device
    trainable: int
    total: int
    autocast: torch.dtype | None


def load(resolved: profile.Profile, device: torch.device, *, vocabulary: int) -> Loaded:
    """The base with the method's trainable weights, in training mode, on the device. Draws the adapter's start from torch's seed.

    Raises:
        Problem: unknown, gated or unreachable model, a tokenizer that does not fit it, values that are not finite, modules that are not
            there, a method that it does not bear.
    """
    base = load_base(resolved.model, device, trainable=resolved.method.name == "full")
    pretrained.check(base, resolved.model, vocabulary)
    return ready(base, resolved, device)


def ready(base: PreTrainedModel, resolved: profile.Profile, device: torch.device) -> Loaded:
    """The base with what the method adds, in training mode; `device` is where it is, or will be.

    Raises:
        Problem: modules that are not there, a method that the base does not bear.
    """
    settings, method = resolved.model, resolved.method
    full = method.name == "full"
    model: PreTrainedModel | PeftModel = base
    if not full:
        model = adapter.attach(base, method, name=settings.base, is_quantised=settings.quantization != "none")
    if resolved.training.checkpoint_activations is True:
        base.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[no-untyped-call]
    model.train()
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    mixed = full or _trains_of_the_base(model)
    autocast = DTYPES[settings.dtype] if mixed and settings.dtype != "float32" else None
    total = sum(anatomy.size_of(parameter) for parameter in model.parameters())
    return Loaded(model, device, trainable, total, autocast)


def _trains_of_the_base(model: PreTrainedModel | PeftModel) -> bool:
    """Whether float32 weights stand where the base computes in 16 bits: modules that are trained whole, or biases."""
    return any(
        ".modules_to_save." in name or anatomy.kind_of(name) == "biases"
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and "prompt_encoder" not in name
    )


def load_result(
    settings: profile.Model, device: torch.device, *, kind: str | None = None, path: Path | None = None
) -> PreTrainedModel | PeftModel:
    """A model to ask, not to train: the base alone, with the adapter at `path` (kind adapter), or the tuned model there (kind model).

    Raises:
        Problem: as `load_base`, or the adapter is not there or not of this base.
    """
    if kind == "model":
        settings = settings.model_copy(update={"base": str(path)})
    model = load_base(settings, device, trainable=False)
    tuned = put_on(model, path, settings.base) if kind == "adapter" and path is not None else model
    if isinstance(tuned, PeftModel) and settings.quantization != "none":
        quantized.keep_type_of_scaled(tuned)
    tuned.train(False)
    return tuned


def put_on(model: PreTrainedModel, path: Path, name: str) -> PeftModel:
    """The base, called `name`, with the adapter at `path`.

    Raises:
        Problem: the adapter is not there, damaged or not of this base.
    """
    try:
        tuned: PeftModel = PeftModel.from_pretrained(model, str(path), is_trainable=False)
        _see_that_it_fits(tuned, path)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise Problem(
            f"The adapter at {path} cannot be loaded onto {name}",
            f"{str(error).splitlines()[0]}",
            "It may be damaged or of another base; resume the run to write it again.",
            code="model",
        ) from error
    return tuned


def _see_that_it_fits(tuned: PeftModel, path: Path) -> None:
    """PEFT only warns of weights that the model has no place for, and leaves those that the file lacks as they were drawn.

    Raises:
        ValueError: there are such.
    """
    with safe_open(path / "adapter_model.safetensors", "pt") as file:
        saved = set(file.keys())
    there = set(get_peft_model_state_dict(tuned, save_embedding_layers=False))
    if odd := sorted(saved ^ there):
        where = "is not in this base" if odd[0] in saved else "is missing from the adapter"
        raise ValueError(f"{odd[0]} {where}, as are {len(odd) - 1} others: the adapter is of another base.")
