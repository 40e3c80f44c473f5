"""The base model: its files, from a folder or the hub, and its weights on the device, quantised if asked."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Final

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from engine import hub, profile
from engine.errors import Problem
from engine.hub_problem import hub_problem
from engine.train import quantized
from engine.train.quantized import DTYPES

# None leaves it to transformers: sdpa, or eager where the architecture has no sdpa (gpt-oss has sinks).
ATTENTION: Final = {"auto": None, "sdpa": None, "eager": "eager", "flash": "flash_attention_2"}
WITH_FRACTIONS: Final = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def load_base(settings: profile.Model, device: torch.device, *, trainable: bool) -> PreTrainedModel:
    """The base model on the device: its weights in float32 to be `trainable` themselves, else frozen in the compute type, 8 or 4 bits.

    Raises:
        Problem: code `model`, `gated`, `network`, `disk`, `attention`.
    """
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    folder = fetch(settings)
    quantization = quantized.settings_of(settings)
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32 if trainable else DTYPES[settings.dtype],
            attn_implementation=ATTENTION[settings.attention],
            quantization_config=quantization,
            device_map={"": device} if quantization else None,
            trust_remote_code=settings.trust_remote_code,
            use_safetensors=True,
            local_files_only=True,
        )
    except ImportError as error:
        raise _missing_part(settings, error) from error
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise Problem(
            f"{settings.base} cannot be loaded",
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}",
            "Check that it is a causal language model with safetensors weights that this transformers knows.",
            code="model",
        ) from error
    if quantization and device.type == "cpu":
        quantized.keep_exact(model)
    if not quantization:
        nn.Module.to(model, device)  # the class's own is declared without arguments
    model.requires_grad_(trainable)
    return model


def fetch(settings: profile.Model) -> Path:
    """The folder with the model's files: the one that is named, or the hub's, downloaded where it is not here yet.

    Raises:
        Problem: code `model`, `gated`, `network`, `disk`.
    """
    folder = Path(settings.base).expanduser()
    if folder.is_dir():
        return folder
    hub.check(settings.base, settings.revision)
    try:
        here = hub.is_cached(settings.base, settings.revision)
        return Path(
            snapshot_download(
                settings.base, revision=settings.revision, allow_patterns=list(hub.WANTED), local_files_only=here
            )
        )
    except (OSError, ValueError) as error:
        raise hub_problem(error, settings.base) from error


def check(model: PreTrainedModel, settings: profile.Model, vocabulary: int) -> None:
    """See that the base can be trained with a tokenizer of `vocabulary` tokens.

    Raises:
        Problem: the tokenizer is another model's, values are not finite, or it cannot compute some columns' logits alone.
    """
    _check_vocabulary(model, vocabulary, settings.base)
    check_columns(model, settings.base)
    check_finite(fetch(settings), settings.base)


def check_columns(model: PreTrainedModel, name: str) -> None:
    """See that the model can compute some columns' logits alone.

    Raises:
        Problem: it cannot (code `model`).
    """
    if "logits_to_keep" not in inspect.signature(model.forward).parameters:
        raise Problem(
            f"{name} cannot be trained here",
            f"{type(model).__name__} has no way to compute only the logits that are needed.",
            "Choose a model that transformers supports as a causal language model.",
            code="model",
        )


def check_finite(folder: Path, name: str) -> None:
    """Look at every weight in the files. Not at the loaded model: a quantised NaN is some finite number that nothing shows any more.

    Raises:
        Problem: one is NaN or infinite.
    """
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118  # not a mapping
                values = tensors.get_tensor(key)
                # The sum is quick and shows every NaN and infinity; only one that overflowed itself needs the second look.
                if values.dtype not in WITH_FRACTIONS or values.sum(dtype=torch.float32).isfinite():
                    continue
                if not values.isfinite().all():
                    raise Problem(
                        f"The base model has values that are not finite: {key}",
                        f"{file} holds NaN or infinity; everything computed with it is NaN.",
                        f"Download {name} again, or choose another base.",
                        code="model",
                    )


def _check_vocabulary(model: PreTrainedModel, vocabulary: int, name: str) -> None:
    """A tokenizer with more tokens than the model has embeddings would index beyond them."""
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)
    rows = embedding.num_embeddings
    if vocabulary > rows:
        raise Problem(
            f"The tokenizer of {name} does not belong to its model",
            f"It has {vocabulary} tokens, the model has embeddings for {rows}.",
            "Use the tokenizer that the model was published with.",
            code="model",
        )


def _missing_part(settings: profile.Model, error: ImportError) -> Problem:
    if settings.attention == "flash":
        return Problem(
            "Flash attention is not installed",
            "model.attention = flash needs the package flash-attn.",
            "Set model.attention = sdpa, which is nearly as fast, or: pip install flash-attn --no-build-isolation",
            code="attention",
        )
    return Problem(
        f"{settings.base} cannot be loaded",
        f"{str(error).splitlines()[0]}",
        "Install what it names: pip install 'finetune-workbench[engine]'",
        code="model",
    )
