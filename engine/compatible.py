"""Which methods a base bears and what they leave out, as far as its config.json tells, and what a device lacks: said before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final

from engine.errors import Problem
from engine.profile import Method, Model, Training

LIBRARIES: Final = {"tensorboard": "tensorboardX", "wandb": "wandb", "trackio": "trackio"}
EXPERTS: Final = ("num_experts", "num_local_experts", "n_routed_experts")
GB: Final = 1e9
NO_DROPOUT: Final = "the experts are adapted without dropout: PEFT has it for linear modules only"
NOT_SCALED: Final = "the experts stay as they are: ia3 scales linear modules only"


def check(method: Method, config: Mapping[str, object]) -> None:
    """See that the method can work on this architecture.

    Raises:
        Problem: code `method`, with the reason.
    """
    config = _of_text(config)
    if method.name == "prefix" and any("linear" in kind or "conv" in kind for kind in _kinds(config)):
        raise _unbearable(method, "Some of its layers keep a state in place of keys and values.")
    if method.name in ("p_tuning", "prompt_tuning") and config.get("hidden_size_per_layer_input"):
        raise _unbearable(method, "Its layers look up embeddings by token, which a virtual token has not.")
    if method.name == "lora" and method.dora and method.targets == "all-linear" and experts(config):
        raise dora_on_experts()


def check_optimizer(training: Training, device: str) -> None:
    """See that the optimizer's states can be kept on `device`, cuda or cpu.

    Raises:
        Problem: code `optimizer`.
    """
    if training.optimizer == "paged_adamw_8bit" and device != "cuda":
        raise Problem(
            "paged_adamw_8bit needs an NVIDIA GPU",
            "Paging moves optimizer states between GPU and main memory; this run is on the CPU.",
            "Set training.optimizer = adamw_8bit or adamw.",
            code="optimizer",
        )


def check_mirrors(training: Training) -> None:
    """See that the trackers which the metrics are to go to are installed, without importing them.

    Raises:
        Problem: one is not (code `install`).
    """
    missing = [LIBRARIES[kind] for kind in training.mirror if find_spec(LIBRARIES[kind]) is None]
    if missing:
        raise Problem(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed",
            f"training.mirror = [{', '.join(training.mirror)}] needs {'it' if len(missing) == 1 else 'them'}.",
            f"Install what is missing: pip install {' '.join(missing)}; or change training.mirror.",
            code="install",
        )


def notes(model: Model, method: Method, config: Mapping[str, object]) -> list[str]:
    """What a person should know of a base with experts: transformers keeps those of a layer as one parameter, not as linear modules."""
    config = _of_text(config)
    if not experts(config):
        return []
    found = []
    if model.quantization != "none":
        found.append(
            f"the experts{_size(config)} stay in {model.dtype}: bitsandbytes quantises linear modules only, so "
            f"model.quantization = {model.quantization} saves little"
        )
    if method.name == "lora" and method.targets == "all-linear" and method.dropout:
        found.append(NO_DROPOUT)
    if method.name == "ia3":
        found.append(NOT_SCALED)
    return found


def dora_on_experts() -> Problem:
    """What is said where DoRA would have to adapt experts: all of them, or those that `method.targets` names."""
    return Problem(
        "DoRA cannot adapt this model's experts",
        "All experts of a layer are one parameter, and PEFT's DoRA knows linear modules only.",
        "Set method.dora = false, or name linear modules in method.targets, which leaves the experts frozen.",
        code="method",
    )


def experts(config: Mapping[str, object]) -> int:
    """Experts of a layer; 0 for a model without."""
    return max(_number(config, key) for key in EXPERTS)


def _size(config: Mapping[str, object]) -> str:
    """Of all experts in 16 bits: gate, up and down are matrices of hidden size times intermediate size. Empty where that is not said."""
    inner = _number(config, "moe_intermediate_size") or _number(config, "intermediate_size")
    layers = _number(config, "num_hidden_layers") - _number(config, "first_k_dense_replace")
    weights = 3 * layers * experts(config) * _number(config, "hidden_size") * inner
    return f" (about {2 * weights / GB:.1f} GB)" if weights else ""


def _number(config: Mapping[str, object], key: str) -> int:
    value = config.get(key)
    return value if isinstance(value, int) else 0


def _kinds(config: Mapping[str, object]) -> list[str]:
    kinds = config.get("layer_types")
    return [str(kind) for kind in kinds] if isinstance(kinds, list) else []


def _of_text(config: Mapping[str, object]) -> Mapping[str, object]:
    """A model that sees too keeps its language model's configuration inside."""
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def _unbearable(method: Method, why: str) -> Problem:
    return Problem(
        f"method.name = {method.name} does not go with this base", why, "Set method.name = lora.", code="method"
    )
