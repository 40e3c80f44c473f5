"""A model as a run trains it: the base from a folder or the hub, quantised if asked, with an adapter if asked."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from huggingface_hub import snapshot_download
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from engine import hub, profile
from engine.errors import Problem, closest
from engine.hub_problem import hub_problem

ATTENTION: Final = {"auto": "sdpa", "sdpa": "sdpa", "eager": "eager", "flash": "flash_attention_2"}
DTYPES: Final = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True)
class Loaded:
    """A model ready to train. `trainable` and `total` count parameters (4-bit ones as what they stand for).

    `autocast` is the compute type where the weights are kept in float32 (method full), None where the model computes as it is.
    """

    model: PreTrainedModel | PeftModel
    device: torch.device
    trainable: int
    total: int
    autocast: torch.dtype | None


def load(resolved: profile.Profile, device: torch.device, *, vocabulary: int) -> Loaded:
    """The base with the method's trainable weights, in training mode, on the device. Draws the adapter's start from torch's seed.

    Raises:
        Problem: unknown, gated or unreachable model, a tokenizer that does not fit it, modules that are not there.
    """
    settings = resolved.model
    full = resolved.method.name == "full"
    base = load_base(settings, device, trainable=full)
    check_vocabulary(base, vocabulary, settings.base)
    if "logits_to_keep" not in inspect.signature(base.forward).parameters:
        raise Problem(
            f"{settings.base} cannot be trained here",
            f"{type(base).__name__} has no way to compute only the logits that are needed.",
            "Choose a model that transformers supports as a causal language model.",
            code="model",
        )
    model = base if full else add_adapter(base, resolved)
    if resolved.training.checkpoint_activations is True:
        base.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[no-untyped-call]
    model.train()
    autocast = DTYPES[settings.dtype] if full and settings.dtype != "float32" else None
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return Loaded(model, device, trainable, model.num_parameters(), autocast)


def load_base(settings: profile.Model, device: torch.device, *, trainable: bool) -> PreTrainedModel:
    """The base model on the device: its weights in float32 to be `trainable` themselves, else frozen in the compute type or 4 bits.

    Raises:
        Problem: code `model`, `gated`, `network`, `disk`, `attention`.
    """
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    folder = fetch(settings)
    quantized = settings.quantization != "none"
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32 if trainable else DTYPES[settings.dtype],
            attn_implementation=ATTENTION[settings.attention],
            quantization_config=_four_bits(settings) if quantized else None,
            device_map={"": device} if quantized else None,
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
    if quantized and device.type == "cpu":
        keep_four_bits_exact(model)
    if not quantized:
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


def _four_bits(settings: profile.Model) -> BitsAndBytesConfig:
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type=settings.quantization,
        bnb_4bit_use_double_quant=settings.double_quantization,
        bnb_4bit_compute_dtype=DTYPES[settings.dtype],
    )


def keep_four_bits_exact(model: nn.Module) -> None:
    """Keep bitsandbytes from repacking 4-bit weights at the first evaluation on a CPU with AVX512-BF16.

    The repacked form serves inference only: gradients through it are silently wrong ever after.
    """
    from bitsandbytes.nn.modules import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


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


def check_vocabulary(model: PreTrainedModel, vocabulary: int, name: str) -> None:
    """A tokenizer with more tokens than the model has embeddings would index beyond them.

    Raises:
        Problem: it has.
    """
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


def add_adapter(base: PreTrainedModel, resolved: profile.Profile) -> PeftModel:
    """The base, frozen, with a LoRA adapter in float32: adapters in 16 bits stop learning once updates round to nothing.

    Raises:
        Problem: a target that no module is named like.
    """
    method = resolved.method
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=method.rank,
        lora_alpha=method.alpha,  # type: ignore[arg-type]  # any number; declared as int
        lora_dropout=method.dropout,
        target_modules=method.targets if isinstance(method.targets, str) else list(method.targets),
        use_dora=method.dora,
        use_rslora=method.rslora,
    )
    linear = sorted({name.rsplit(".")[-1] for name, part in base.named_modules() if isinstance(part, nn.Linear)})
    missing = [] if isinstance(method.targets, str) else [name for name in method.targets if not _names(base, name)]
    if missing:
        raise Problem(
            f"The model has no module {missing[0]}{closest(missing[0], linear)}",
            f"Linear modules are {', '.join(linear)}.",
            'Change method.targets, or set it to "all-linear".',
            code="model",
        )
    model = get_peft_model(base, config)
    assert isinstance(model, PeftModel)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    model.peft_config["default"].base_model_name_or_path = resolved.model.base
    return model


def _names(base: PreTrainedModel, target: str) -> bool:
    return any(name == target or name.endswith(f".{target}") for name, _ in base.named_modules())


def go_on_from(loaded: Loaded, adapter: Path, name: str) -> None:
    """Start from the adapter that the run `name` left at `adapter` in place of a fresh one.

    Raises:
        Problem: it is not there, or has another shape.
    """
    from peft.utils import set_peft_model_state_dict
    from safetensors.torch import load_file

    try:
        found: Any = set_peft_model_state_dict(loaded.model, load_file(adapter / "adapter_model.safetensors"))
        strangers = list(found.unexpected_keys)
    except (OSError, RuntimeError, SafetensorError) as error:
        strangers = [str(error).splitlines()[0]]
    if strangers:
        raise Problem(
            f"The adapter of {name} cannot be gone on from",
            f"{adapter}: {strangers[0]}.",
            "Take the method's settings over from that run, or start from the base model.",
            code="model",
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
    base = load_base(settings, device, trainable=False)
    if kind != "adapter" or path is None:
        base.train(False)
        return base
    try:
        tuned: PeftModel = PeftModel.from_pretrained(base, str(path), is_trainable=False)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise Problem(
            f"The adapter at {path} cannot be loaded onto {settings.base}",
            f"{str(error).splitlines()[0]}",
            "It may be damaged or of another base; resume the run to write it again.",
            code="model",
        ) from error
    tuned.train(False)
    return tuned
