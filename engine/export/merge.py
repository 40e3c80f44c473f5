"""A base with its adapter as one model: in the base's own type, never in the quantised weights that a run may have trained on.

Merging into 4-bit weights rounds the tune away with the rest (peft#2321), and the sum in bfloat16 of a weight and what was learned loses what
is small beside the weight. So each module is put together in float32 and rounded once, to the type that its weight had.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from engine.errors import Problem


def load_own(folder: Path, *, name: str, remote_code: bool = False) -> PreTrainedModel:
    """The model at `folder` on the CPU as it is in its files: not quantised, every weight in its own type.

    Raises:
        Problem: it cannot be loaded, or its files hold quantised weights.
    """
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder, dtype="auto", trust_remote_code=remote_code, use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Problem(f"{name} cannot be loaded", why, "See that its files are whole.", code="model") from error
    if getattr(model.config, "quantization_config", None) is not None:
        raise Problem(
            f"{name} is itself quantised",
            "What was learned would be rounded to its few bits and be lost.",
            "Use the adapter as it is, or train on the model that it was quantised from.",
            code="model",
        )
    model.requires_grad_(False)
    model.train(False)
    return model


def merged(tuned: PeftModel, kept: dict[str, torch.dtype], each: Callable[[], None]) -> PreTrainedModel:
    """The model with what the adapter adds in its weights; `kept` are the base's types by name (`types`). Takes the model apart.

    `each` is called after every module, and may raise to end it.
    """
    _part_tied(tuned)
    for module in tuned.modules():
        if isinstance(module, BaseTunerLayer):
            _merge(module)
            each()
    whole = tuned.unload()
    assert isinstance(whole, PreTrainedModel)
    for name, parameter in whole.named_parameters():
        parameter.data = parameter.data.to(kept.get(name, whole.dtype))
    into, out = _ends(whole)
    if into is not out and not torch.equal(into, out):
        whole.config.get_text_config().tie_word_embeddings = False  # each learned its own
        whole.config.tie_word_embeddings = False
    return whole


def types(model: nn.Module) -> dict[str, torch.dtype]:
    """The type of each weight."""
    return {name: parameter.dtype for name, parameter in model.named_parameters(remove_duplicate=False)}


def _ends(model: PreTrainedModel) -> tuple[torch.Tensor, torch.Tensor]:
    """The weights of embedding and head: one and the same where they are tied."""
    into, out = model.get_input_embeddings(), model.get_output_embeddings()  # type: ignore[no-untyped-call]
    first, last = into.weight, (into if out is None else out).weight
    assert isinstance(first, torch.Tensor) and isinstance(last, torch.Tensor)
    return first, last


def _merge(module: BaseTunerLayer) -> None:
    base = module.get_base_layer()
    stood = {name: weight.dtype for name, weight in base.named_parameters()}
    base.float()
    module.merge(safe_merge=True)  # ValueError where the sum is not finite
    for name, weight in base.named_parameters():
        weight.data = weight.data.to(stood[name])


def _part_tied(tuned: PeftModel) -> None:
    """An adapter on a head that is also the embedding was learned for the head: the sum must not show in the embedding."""
    base = tuned.get_base_model()
    assert isinstance(base, PreTrainedModel)
    first, last = _ends(base)
    for module in (base.get_output_embeddings(), base.get_input_embeddings()):  # type: ignore[no-untyped-call]
        if isinstance(module, BaseTunerLayer) and first is last:
            plain = module.get_base_layer()
            plain.weight = nn.Parameter(first.detach().clone(), requires_grad=False)
