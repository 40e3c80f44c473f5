"""Tiny models of the architectures that people train, a few hundred thousand parameters each, because they differ where it hurts.

Made with transformers' own configuration classes and random weights, saved as safetensors beside the tiny tokenizer. What each is here for
stands beside it. Torch is only imported when one is made.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

from tests.tiny import CONTEXT, SPECIAL, VOCABULARY, make_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

Family = Literal["llama", "qwen3", "qwen3_5", "gemma3", "gemma4", "gpt_oss", "mistral", "qwen3_moe"]
FAMILIES: Final[tuple[Family, ...]] = get_args(Family)

HIDDEN: Final = 64
WINDOW: Final = 16  # of sliding attention: shorter than most rows, so that it matters


def make(family: Family, folder: Path, *, seed: int = 0) -> Path:
    """A folder that transformers loads as the family's causal language model: tokenizer, config and random float32 weights."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    make_tokenizer(folder)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(_config(family), dtype=torch.float32)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "sinks" in name or (name.endswith("bias") and not parameter.any()):
                    parameter.normal_(std=0.05)  # what starts as nothing would hide that it is left out
        model.save_pretrained(folder)
    return folder


def _config(family: Family) -> PreTrainedConfig:
    import transformers

    shape = {
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
    local_and_global = ["sliding_attention", "full_attention"]
    match family:
        case "llama":
            return transformers.LlamaConfig(**shape, tie_word_embeddings=False)
        case "qwen3":  # norms on queries and keys; the head is the embedding
            return transformers.Qwen3Config(**shape, tie_word_embeddings=True)
        case "qwen3_5":  # hybrid: a recurrent layer beside an attention layer with a gate
            return transformers.Qwen3_5TextConfig(
                **shape,
                layer_types=["linear_attention", "full_attention"],
                linear_key_head_dim=16,
                linear_value_head_dim=16,
                linear_num_key_heads=2,
                linear_num_value_heads=4,
            )
        case "gemma3":  # sliding and full layers of different rotary bases, scaled embeddings, tied head
            return transformers.Gemma3TextConfig(
                **shape, layer_types=local_and_global, sliding_window=WINDOW, query_pre_attn_scalar=16
            )
        case "gemma4":  # as gemma3, with an embedding for each layer, other heads in full layers, soft-capped logits
            return transformers.Gemma4TextConfig(
                **shape,
                layer_types=local_and_global,
                sliding_window=WINDOW,
                global_head_dim=32,
                vocab_size_per_layer_input=VOCABULARY,
                hidden_size_per_layer_input=16,
                final_logit_softcapping=30.0,
            )
        case "gpt_oss":  # experts fused into one tensor, with biases; attention sinks; biases everywhere
            return transformers.GptOssConfig(
                **{**shape, "intermediate_size": HIDDEN},
                layer_types=local_and_global,
                sliding_window=WINDOW,
                num_local_experts=4,
                num_experts_per_tok=2,
                rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            )
        case "mistral":  # sliding attention in every layer
            return transformers.MistralConfig(**shape, sliding_window=WINDOW)
        case "qwen3_moe":  # experts fused into one tensor, without biases; norms on queries and keys
            return transformers.Qwen3MoeConfig(
                **shape, moe_intermediate_size=32, num_experts=4, num_experts_per_tok=2, norm_topk_prob=True
            )
