"""A model's configuration - a folder's, the hub's, or one that ships - and its shape: how many layers of what width.

Decoder-only transformers of the Llama family and its relatives are understood: attention with grouped keys and values, a gated
feed-forward part or experts in its place, RMS or layer norms. The shape of another architecture is refused rather than told wrongly; a
simulation needs none.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from engine import hub
from engine.errors import Problem
from engine.fit.shape import ModelShape
from engine.hub_file import cached_file
from engine.places import shipped

KNOWN: Final = frozenset(
    {
        "gemma",
        "gemma2",
        "gemma3",
        "gemma3_text",
        "gpt_oss",
        "granite",
        "llama",
        "mistral",
        "mixtral",
        "olmo2",
        "phi3",
        "qwen2",
        "qwen3",
        "qwen3_moe",
        "smollm3",
        "stablelm",
    }
)
"""Values of model_type whose blocks are as `ModelShape` says."""
UNSAID: Final[Mapping[str, Mapping[str, int]]] = {
    "gemma3_text": {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262_208}
    | {"max_position_embeddings": 131_072}
}
"""What transformers takes where a config.json leaves it out, as those of the larger Gemma 3 models do."""
MOST: Final[Mapping[str, int]] = {
    "num_hidden_layers": 2**10,
    "hidden_size": 2**18,
    "intermediate_size": 2**20,
    "num_attention_heads": 2**14,
    "num_key_value_heads": 2**14,
    "head_dim": 2**14,
    "vocab_size": 2**24,
}
"""Far beyond any published model: ten times the largest, and more."""
TIED: Final = frozenset({"gemma", "gemma2", "gemma3", "gemma3_text"})  # without saying so


def config_of(base: str, revision: str = "main") -> Mapping[str, object]:
    """The config.json of a base model: a local folder's, or from the hub's cache, the models that ship, or the hub, in this order.

    Raises:
        Problem: unknown or gated model, no network.
    """
    if not Path(base).expanduser().is_dir() and cached_file(base, "config.json", revision) is None:
        known = {name: model.config for model in shipped_models() for name in model.ids}
        if base in known:
            return known[base]
    return hub.config(base, revision)


def context_of(config: Mapping[str, object]) -> int | None:
    """Tokens of the longest sequence that a model was made for; None where its config.json does not say."""
    inner = config.get("text_config")
    text = {**config, **inner} if isinstance(inner, dict) else config
    unsaid = UNSAID.get(str(text.get("model_type")), {}).get("max_position_embeddings")
    found = text.get("max_position_embeddings", unsaid)
    return found if isinstance(found, int) and found > 0 else None


def of_model(base: str, revision: str = "main") -> ModelShape:
    """The shape of a base model, wherever its configuration is.

    Raises:
        Problem: as `config_of`, and an architecture whose memory is not understood ("shape").
    """
    return from_config(config_of(base, revision), base)


def from_config(config: Mapping[str, object], name: str) -> ModelShape:
    """The shape that a config.json describes.

    Raises:
        Problem: an architecture that is not understood or weights that are quantised already ("shape"), or a key is missing ("model").
    """
    kind = str(config.get("model_type", ""))
    if kind not in KNOWN:
        raise Problem(
            f"The memory of {name} cannot be estimated",
            f"Its architecture ({kind or 'not named'}) is not one of {', '.join(sorted(KNOWN))}.",
            "It may train all the same: set training.micro_batch and training.checkpoint_activations yourself.",
            code="shape",
        )
    if config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1:
        raise Problem(
            f"The memory of {name} cannot be estimated",
            "Only some of its layers have experts.",
            "It may train all the same: set training.micro_batch and training.checkpoint_activations yourself.",
            code="shape",
        )
    packed = config.get("quantization_config")
    packing = packed.get("quant_method") if isinstance(packed, Mapping) else None
    if packing and packing != "mxfp4" and not published_in_4_bits(config):  # the first is unpacked to be trained
        raise Problem(
            f"The memory of {name} cannot be estimated",
            f"Its weights were published quantised ({packing}).",
            "Choose the base that they were made of, and let model.quantization quantise it.",
            code="shape",
        )
    try:
        return _read(config, kind)
    except (KeyError, TypeError, ValueError) as error:
        raise Problem(
            f"The config.json of {name} is not whole",
            f"It lacks {error.args[0] if isinstance(error, KeyError) else error}.",
            "Download or save the model again.",
            code="model",
        ) from error


def published_in_4_bits(config: Mapping[str, object]) -> Mapping[str, object] | None:
    """Of weights that bitsandbytes quantised before they were published, as model.quantization would: what their `quantization_config` says.
    None for others, and where more modules than the head were left out.
    """
    packed = config.get("quantization_config")
    if (
        not isinstance(packed, Mapping)
        or packed.get("quant_method") != "bitsandbytes"
        or not packed.get("load_in_4bit")
    ):
        return None
    return packed if set(packed.get("llm_int8_skip_modules") or ()) <= {"lm_head"} else None


def _read(config: Mapping[str, object], kind: str) -> ModelShape:
    inner = config.get("text_config")
    text = {**config, **inner} if isinstance(inner, dict) else config
    kind = str(text.get("model_type", kind))
    known = {**UNSAID.get(kind, {}), **{key: value for key, value in text.items() if value is not None}}

    def number(key: str, default: int | None = None) -> int:
        value = known.get(key, default)
        if value is None:
            raise KeyError(key)
        found = int(str(value))
        if found < 1:
            raise ValueError(f"{key} above 0 (it is {found})")
        if found > MOST.get(key, found):
            raise ValueError(f"{key} of 1 to {MOST[key]:,} (it is {found:,})")
        return found

    hidden, heads = number("hidden_size"), number("num_attention_heads")
    kv_heads, head_dim = number("num_key_value_heads", heads), number("head_dim", max(1, hidden // heads))
    experts = next((number(key) for key in ("num_experts", "num_local_experts") if known.get(key)), 0)
    bias = bool(known.get("attention_bias"))
    return ModelShape(
        hidden=hidden,
        intermediate=number("moe_intermediate_size" if "moe_intermediate_size" in known else "intermediate_size"),
        layers=number("num_hidden_layers"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocabulary=number("vocab_size"),
        tied=bool(known.get("tie_word_embeddings", kind in TIED)),
        context=number("max_position_embeddings"),
        # Qwen2 has these biases without saying so; the others say.
        qkv_bias=kind == "qwen2" or bias or bool(known.get("use_qkv_bias")),
        output_bias=bias and kind != "qwen2",
        # One norm for all heads of a layer, but OLMo 2, which has one as wide as all of them together.
        qk_norm={"qwen3": 2 * head_dim, "qwen3_moe": 2 * head_dim, "gemma3_text": 2 * head_dim}.get(
            kind, (heads + kv_heads) * head_dim if kind == "olmo2" else 0
        ),
        norms=4 if kind in ("gemma2", "gemma3_text") else 2,
        norm_bias=kind == "stablelm",
        fused=kind == "phi3",
        experts=experts,
        experts_used=number("num_experts_per_tok", 1) if experts else 1,
        expert_bias=kind == "gpt_oss",
        sinks=kind == "gpt_oss",
        beside=_seeing(config.get("vision_config"), hidden),
    )


def _seeing(vision: object, hidden: int) -> int:
    """Weights of a vision transformer (SigLIP) and of what hands its features on; 0 where there is none.

    Raises:
        ValueError: it is of another kind.
    """
    if vision is None:
        return 0
    if not isinstance(vision, dict):
        raise ValueError("a vision_config that is an object")
    width, inner, layers = (int(vision[key]) for key in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    patch, pixels = int(vision.get("patch_size", 14)), int(vision.get("image_size", 224))
    blocks = layers * (4 * width * (width + 1) + 2 * width * inner + inner + 5 * width)
    return blocks + width * (3 * patch**2 + (pixels // patch) ** 2 + 3) + width * (hidden + 1)


@dataclass(frozen=True)
class ShippedModel:
    """A model whose config.json comes with the program, word for word: its hub ids, published parameter count, where the figures are from.

    `gated`: its owner wants terms to be accepted before it can be downloaded.
    """

    name: str
    ids: tuple[str, ...]
    parameters: int
    source: str
    config: Mapping[str, object]
    gated: bool = False

    @property
    def shape(self) -> ModelShape:
        """For an architecture of `KNOWN`; others raise a Problem."""
        return from_config(self.config, self.name)


@cache
def shipped_models() -> tuple[ShippedModel, ...]:
    """The models in profiles/models, by the names of their files."""
    return tuple(map(_read_shipped, sorted((shipped() / "models").glob("*.toml"))))


def _read_shipped(path: Path) -> ShippedModel:
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    # JSON inside of TOML, which knows no null: a sliding_window of null is not one that is left out.
    return ShippedModel(**{**values, "ids": tuple(values["ids"]), "config": json.loads(values["config"])})
