"""Small real things for tests: a tokenizer, a Llama of a few hundred thousand parameters, rows and a resolved profile.

None of it imports torch: weights are drawn by NumPy and written as safetensors, so tests of data and fit stay cheap.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from engine.profile import Profile

VOCABULARY: Final = 512
CONTEXT: Final = 512
SPECIAL: Final = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
TEMPLATE: Final = (
    "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
WORDS: Final = [
    "jitter",
    "shimmer",
    "pitch",
    "voice",
    "normal",
    "raised",
    "lowered",
    "harmonics",
    "noise",
    "ratio",
    "decibel",
    "percent",
    "steady",
    "rough",
    "breathy",
    "clear",
]


def make_tokenizer(folder: Path) -> None:
    """A byte-level BPE of at most 512 tokens with a chat template, an end token and a padding token."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(name, special=True, normalized=False) for name in SPECIAL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    corpus = [f"{row['instruction']} {row['input']} {row['output']}" for row in map(_row, range(64))]
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|end|>",
        "pad_token": "<|pad|>",
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(TEMPLATE)


def make_llama(folder: Path, *, layers: int = 2, hidden: int = 64, seed: int = 0) -> Path:
    """A folder that transformers loads as LlamaForCausalLM: tokenizer, config and random float32 weights."""
    make_tokenizer(folder)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": SPECIAL.index("<|end|>"),
        "pad_token_id": SPECIAL.index("<|pad|>"),
        "dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    save_file(_llama_weights(layers, hidden, seed), folder / "model.safetensors", {"format": "pt"})
    return folder


def _llama_weights(layers: int, hidden: int, seed: int) -> dict[str, NDArray[np.float32]]:
    draw = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> NDArray[np.float32]:
        return (0.05 * draw.standard_normal((rows, columns))).astype(np.float32)

    ones = np.ones(hidden, np.float32)
    weights = {
        "model.embed_tokens.weight": matrix(VOCABULARY, hidden),
        "model.norm.weight": ones,
        "lm_head.weight": matrix(VOCABULARY, hidden),
    }
    for layer in range(layers):
        place = f"model.layers.{layer}"
        for name, rows in (("q", hidden), ("k", hidden // 2), ("v", hidden // 2), ("o", hidden)):
            weights[f"{place}.self_attn.{name}_proj.weight"] = matrix(rows, hidden)
        for name, rows, columns in (("gate", 2, 1), ("up", 2, 1), ("down", 1, 2)):
            weights[f"{place}.mlp.{name}_proj.weight"] = matrix(rows * hidden, columns * hidden)
        weights[f"{place}.input_layernorm.weight"] = ones
        weights[f"{place}.post_attention_layernorm.weight"] = ones
    return weights


def _row(number: int) -> dict[str, str]:
    """Row `number` of an instruction set: inputs of ragged lengths, a label that can be read off the input."""
    measured = [WORDS[(number * 7 + place * 3) % len(WORDS)] for place in range(2 + number % 9)]
    label = "raised" if number % 3 == 0 else "normal"
    return {
        "instruction": f"Read the {WORDS[number % len(WORDS)]} of recording {number}.",
        "input": f"{' '.join(measured)} {1.5 if label == 'raised' else 0.5} percent",
        "output": f"It is {label}.",
        "label": label,
    }


def write_rows(path: Path, n: int) -> Path:
    """JSONL of `n` different rows with the columns instruction, input, output and label."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(_row(number)) + "\n" for number in range(n)))
    return path


def tiny_profile(base: Path, data: Path, **settings: object) -> Profile:
    """A resolved float32 profile for CPU that trains in a second; settings are dotted keys: `**{"training.epochs": 1}`."""
    values: dict[str, dict[str, object]] = {
        "model": {"base": str(base), "dtype": "float32", "attention": "sdpa"},
        "template": {"max_tokens": 128},
        "split": {"test": 0, "validation": 0.25},
        "method": {"rank": 4, "alpha": 8, "dropout": 0.1},
        "training": {
            "epochs": 2,
            "effective_batch": 4,
            "micro_batch": 2,
            "packing": False,
            "row_tokens": 256,
            "learning_rate": 1e-3,
            "checkpoint_activations": False,
            "evaluate_every": 4,
            "save_every": 3,
        },
        "hardware": {"device": "cpu", "gpus": (), "ranks": 1, "sharding": "replicate"},
    }
    for key, value in settings.items():
        part, _, name = key.partition(".")
        values.setdefault(part, {})[name] = value
    columns = {"instruction": "instruction", "input": "input", "response": "output", "label": "label"}
    return Profile.model_validate({**values, "data": [{"source": str(data), "columns": columns}]})
