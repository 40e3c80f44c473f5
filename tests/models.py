"""Tiny models of the architectures that people train, a few hundred thousand parameters each, because they differ where it hurts.

Made with transformers' own configuration classes and random weights, saved as safetensors beside the tiny tokenizer. What each is here for
stands beside it. Torch is only imported when one is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

from tests.tiny import CONTEXT, SPECIAL, VOCABULARY, make_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

Family = Literal["llama", "qwen3", "qwen3_5", "gemma3", "gemma4", "gpt_oss", "mistral", "qwen3_moe"]
FAMILIES: Final[tuple[Family, ...]] = get_args(Family)

HIDDEN: Final = 64
WINDOW: Final = 16  # of sliding attention: shorter than most rows, so that it matters

LOCAL_AND_GLOBAL: Final = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": WINDOW}
EXPERTS: Final = {"num_experts": 4, "num_experts_per_tok": 2}

# What each family has that others have not.
PECULIAR: Final[dict[Family, dict[str, object]]] = {
    "llama": {"tie_word_embeddings": False},
    # Norms on queries and keys; the head is the embedding.
    "qwen3": {"tie_word_embeddings": True},
    # Hybrid: a recurrent layer beside an attention layer with a gate.
    "qwen3_5": {
        "layer_types": ["linear_attention", "full_attention"],
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
    },
    # Sliding and full layers with different rotary bases, scaled embeddings, a tied head.
    "gemma3": {**LOCAL_AND_GLOBAL, "query_pre_attn_scalar": 16},
    # As gemma3, with an embedding for each layer, other heads in full layers, soft-capped logits.
    "gemma4": {
        **LOCAL_AND_GLOBAL,
        "global_head_dim": 32,
        "vocab_size_per_layer_input": VOCABULARY,
        "hidden_size_per_layer_input": 16,
        "final_logit_softcapping": 30.0,
    },
    # Experts fused into one tensor a layer, with biases; attention sinks; biases in attention too; no sdpa.
    "gpt_oss": {
        **LOCAL_AND_GLOBAL,
        **EXPERTS,
        "intermediate_size": HIDDEN,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
    # Sliding attention in every layer.
    "mistral": {"sliding_window": WINDOW},
    # Experts fused into one tensor a layer, without biases.
    "qwen3_moe": {**EXPERTS, "moe_intermediate_size": 32, "norm_topk_prob": True},
}
TEXT_ONLY: Final[dict[Family, str]] = {"qwen3_5": "qwen3_5_text", "gemma3": "gemma3_text", "gemma4": "gemma4_text"}


def make(family: Family, folder: Path, *, seed: int = 0, **changes: object) -> Path:
    """A folder that transformers loads as the family's causal language model: tokenizer, config (with changes) and random float32 weights."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    make_tokenizer(folder)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(_config(family, changes), dtype=torch.float32)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "sinks" in name or (name.endswith("bias") and not parameter.any()):
                    parameter.normal_(std=0.05)  # what starts as nothing would hide that it is left out
        model.save_pretrained(folder)
    return folder


def _config(family: Family, changes: Mapping[str, object]) -> PreTrainedConfig:
    from transformers import AutoConfig

    shape: dict[str, object] = {
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.05,
        "bos_token_id": None,
        "eos_token_id": SPECIAL.index("<|end|>"),
        "pad_token_id": SPECIAL.index("<|pad|>"),
        "dtype": "float32",
    }
    found: PreTrainedConfig = AutoConfig.for_model(
        TEXT_ONLY.get(family, family), **{**shape, **PECULIAR[family], **changes}
    )
    return found
