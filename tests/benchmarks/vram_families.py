"""Which architecture a measured row ran, from the model's name and its shape: the row has sizes, but neither `model_type` nor biases.

A name suggests families; the one whose parameters are as many as the row says is taken. Where none fits, the first suggestion stands and
`exact` is false.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

Shape = Mapping[str, Any]
"""A row's `model_config`."""

NAMED: Final = (
    (r"qwen-?3", "qwen3"),
    (r"qwen-?(2|1\.5)|qwq|deepseek-r1-distill-qwen", "qwen2"),
    (r"gemma-?3", "gemma3_text"),
    (r"gemma-?2", "gemma2"),
    (r"gemma", "gemma"),
    (r"phi-?(3|4)", "phi3"),
    (r"phi", "phi"),
    (r"stablelm", "stablelm"),
    (r"smollm-?3", "smollm3"),
    (r"olmo-?2", "olmo2"),
    (r"olmo", "olmo"),
    (r"granite", "granite"),
    (r"starcoder-?2", "starcoder2"),
    (r"mi[sx]tral|ministral|zephyr|hermes-.*mistral", "mistral"),
    (r"", "llama"),  # TinyLlama, SmolLM, deepseek-coder, Yi, Falcon 3, ...: of its architecture
)
"""Families by what is in a model's name, most telling first."""
VARIANTS: Final[Mapping[str, tuple[Shape, ...]]] = {
    "llama": ({}, {"attention_bias": True}, {"attention_bias": True, "mlp_bias": True}),
    "qwen3": ({}, {"attention_bias": True}),
    "gemma": ({"hidden_activation": "gelu_pytorch_tanh"},),
    "stablelm": ({}, {"use_qkv_bias": True}, {"use_parallel_residual": True}, {"qk_layernorm": True}),
    "starcoder2": ({"use_bias": True}, {"use_bias": False}),
}
"""What models of a family differ in besides their sizes."""


@dataclass(frozen=True)
class Family:
    """A configuration, and whether it has as many parameters as the row says."""

    config: PreTrainedConfig
    exact: bool

    @property
    def name(self) -> str:
        """As transformers calls it."""
        return str(self.config.model_type)


def family(model_id: str, shape: Shape) -> Family:
    """The architecture of a row's model.

    Raises:
        KeyError: the shape lacks a size.
        ValueError: transformers does not take them.
    """
    name = model_id.rpartition("/")[2].casefold()
    suggested = [kind for pattern, kind in NAMED if re.search(pattern, name)]
    candidates = [*suggested, *(kind for _, kind in NAMED if kind not in suggested)]
    first: PreTrainedConfig | None = None
    for config in (each for kind in candidates for each in _configs(kind, shape)):
        first = first or config
        if parameters(config) == shape["num_params"]:
            return Family(config, exact=True)
    assert first
    return Family(first, exact=False)


def parameters(config: PreTrainedConfig) -> int:
    """How many a model has, shared ones once."""
    with torch.device("meta"):
        model: nn.Module = AutoModelForCausalLM.from_config(config)
    model.tie_weights()  # type: ignore[operator]
    return sum(parameter.numel() for parameter in model.parameters())


def _configs(kind: str, shape: Shape) -> Iterator[PreTrainedConfig]:
    sizes = {
        "hidden_size": shape["hidden_size"],
        "num_hidden_layers": shape["num_layers"],
        "num_attention_heads": shape["num_attention_heads"],
        "num_key_value_heads": shape["num_kv_heads"],
        "intermediate_size": shape["intermediate_size"],
        "vocab_size": shape["vocab_size"],
        "tie_word_embeddings": shape["tie_word_embeddings"],
        "pad_token_id": None,
    }
    if shape.get("head_dim"):
        sizes["head_dim"] = shape["head_dim"]
    for variant in VARIANTS.get(kind, ({},)):
        yield AutoConfig.for_model(kind, **sizes, **variant)
