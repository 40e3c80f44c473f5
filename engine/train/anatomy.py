"""Which part of a model a weight belongs to, by the names that transformers gives modules.

Names are all there is to go by: transformers marks neither attention nor feed-forward blocks, and experts are one fused parameter of
three dimensions, not linear modules.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

Kind = Literal[
    "attention",
    "feed-forward",
    "experts",
    "router",
    "embeddings",
    "head",
    "norms",
    "biases",
    "virtual tokens",
    "other",
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

LINEAR: Final = (nn.Linear, Conv1D)
KEYS_AND_VALUES: Final = (
    "k_proj",
    "v_proj",
    "key_value",
    "query_key_value",
    "qkv_proj",
    "in_proj_qkv",
    "Wqkv",
    "c_attn",
)
FEED_FORWARD_OUTPUTS: Final = ("down_proj", "fc2", "w2", "dense_4h_to_h", "fc_out", "mlp.c_proj")
"""What IA3 scales (Liu et al. 2022, arXiv:2205.05638, section 3.3), as PEFT's table names it per architecture: keys, values - the whole
where they are one module with the queries - and the input of each feed-forward block's last layer."""


def kind_of(name: str) -> Kind:
    """Which part the parameter of this name belongs to; an adapter's belongs where the module does that it stands beside."""
    parts = name.split(".")
    if "prompt_encoder" in parts:
        return "virtual tokens"
    if parts[-1].endswith("bias"):
        return "biases"
    if any("norm" in part or part.startswith("ln_") for part in parts):
        return "norms"
    if any(part == "gate" or "router" in part or part == "shared_expert_gate" for part in parts):
        return "router"
    if any("expert" in part for part in parts):
        return "experts"
    if any("embed" in part or part in ("wte", "wpe") for part in parts):
        return "embeddings"
    if any("head" in part for part in parts) and not any("attn" in part for part in parts):
        return "head"
    if any("attn" in part or "attention" in part for part in parts):
        return "attention"
    if any(part in ("mlp", "ffn", "feed_forward") for part in parts):
        return "feed-forward"
    return "other"


def size_of(parameter: nn.Parameter) -> int:
    """How many weights it stands for: bitsandbytes packs two 4-bit ones in a byte, and its state knows the weight's own shape.

    A part of a weight that is cut between GPUs has no state; what is in bytes is packed.
    """
    state = getattr(parameter, "quant_state", None)
    if state is not None:
        return int(state.shape.numel())
    return parameter.numel() * (2 if parameter.dtype == torch.uint8 else 1)


def linear_names(model: nn.Module) -> tuple[str, ...]:
    """Full names of the model's linear modules."""
    return tuple(name for name, module in model.named_modules() if isinstance(module, LINEAR))


def fused_experts(model: nn.Module) -> tuple[str, ...]:
    """Full names of parameters that hold the weights of all experts of a layer: [experts, ., .], outside of any linear module."""
    return tuple(
        name for name, parameter in model.named_parameters() if parameter.ndim == 3 and kind_of(name) == "experts"
    )


def named_like(names: tuple[str, ...], target: str) -> tuple[str, ...]:
    """Those that PEFT takes `target` to mean: the full name or its end."""
    return tuple(name for name in names if name == target or name.endswith(f".{target}"))
