"""A model's configuration - a folder's, the hub's, or one that ships - and its shape: how many layers of what width.

Decoder-only transformers of the Llama family and its close relatives are understood: attention with grouped keys and values, a gated
feed-forward part, RMS or layer norms. A mixture of experts or another architecture is refused rather than estimated wrongly.
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
from engine.hub_file import cached_file
from engine.places import shipped


@dataclass(frozen=True)
class Linear:
    """One linear layer of a block: its name and widths in features."""

    name: str
    inputs: int
    outputs: int
    bias: bool = False

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs


@dataclass(frozen=True)
class ModelShape:
    """Widths in features, counts in whole numbers. `context` is the longest sequence that the model was made for, in tokens."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    context: int
    qkv_bias: bool = False
    qk_norm: bool = False
    norm_bias: bool = False

    @property
    def linears(self) -> tuple[Linear, ...]:
        """The linear layers of one block, with the names that adapters' targets refer to."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return (
            Linear("q_proj", self.hidden, queries, self.qkv_bias),
            Linear("k_proj", self.hidden, keys, self.qkv_bias),
            Linear("v_proj", self.hidden, keys, self.qkv_bias),
            Linear("o_proj", queries, self.hidden),
            Linear("gate_proj", self.hidden, self.intermediate),
            Linear("up_proj", self.hidden, self.intermediate),
            Linear("down_proj", self.intermediate, self.hidden),
        )

    @property
    def block_weights(self) -> int:
        """Weights of the linear layers of all blocks: what 4-bit quantisation makes small."""
        return self.layers * sum(linear.weights for linear in self.linears)

    @property
    def embedding(self) -> int:
        """Weights of the embedding and, where it is a matrix of its own, of the output layer."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def small_weights(self) -> int:
        """Norms and biases."""
        norm = self.hidden * (2 if self.norm_bias else 1)
        biases = sum(linear.outputs for linear in self.linears if linear.bias)
        return self.layers * (2 * norm + biases + (2 * self.head_dim if self.qk_norm else 0)) + norm

    @property
    def parameters(self) -> int:
        """All parameters, tied ones once."""
        return self.block_weights + self.embedding + self.small_weights


KNOWN: Final = frozenset({"llama", "mistral", "qwen2", "qwen3", "stablelm"})
"""Values of model_type whose blocks are as `ModelShape` says."""


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


def of_model(base: str, revision: str = "main") -> ModelShape:
    """The shape of a base model, wherever its configuration is.

    Raises:
        Problem: as `config_of`, and an architecture whose memory is not understood ("shape").
    """
    return from_config(config_of(base, revision), base)


def from_config(config: Mapping[str, object], name: str) -> ModelShape:
    """The shape that a config.json describes.

    Raises:
        Problem: an architecture that is not understood ("shape"), or a key is missing ("model").
    """
    kind = str(config.get("model_type", ""))
    if kind not in KNOWN:
        raise Problem(
            f"The memory of {name} cannot be estimated",
            f"Its architecture ({kind or 'not named'}) is not one of {', '.join(sorted(KNOWN))}.",
            "It may train all the same: set training.micro_batch and training.checkpoint_activations yourself.",
            code="shape",
        )
    try:
        return _read(config, kind)
    except (KeyError, TypeError, ValueError) as error:
        raise Problem(
            f"The config.json of {name} is not whole",
            f"It lacks {error}.",
            "Download or save the model again.",
            code="model",
        ) from error


def _read(config: Mapping[str, object], kind: str) -> ModelShape:
    def number(key: str, default: int | None = None) -> int:
        value = config.get(key)
        if value is None:
            value = default
        if value is None:
            raise KeyError(key)
        return int(str(value))

    hidden, heads = number("hidden_size"), number("num_attention_heads")
    return ModelShape(
        hidden=hidden,
        intermediate=number("intermediate_size"),
        layers=number("num_hidden_layers"),
        heads=heads,
        kv_heads=number("num_key_value_heads", heads),
        head_dim=number("head_dim", hidden // heads),
        vocabulary=number("vocab_size"),
        tied=bool(config.get("tie_word_embeddings", False)),
        context=number("max_position_embeddings"),
        # Qwen2 has these biases without saying so; the others say.
        qkv_bias=kind == "qwen2" or bool(config.get("attention_bias")) or bool(config.get("use_qkv_bias")),
        qk_norm=kind == "qwen3",
        norm_bias=kind == "stablelm",
    )


@dataclass(frozen=True)
class ShippedModel:
    """A model whose config.json comes with the program, word for word: its hub ids, published parameter count, where the figures are from."""

    name: str
    ids: tuple[str, ...]
    parameters: int
    source: str
    config: Mapping[str, object]

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
