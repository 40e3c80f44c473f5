"""What the throughput benchmark trains on: a Llama of a few million parameters and ragged rows, both made on the spot."""

from __future__ import annotations

import json
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.tiny import SPECIAL, TEMPLATE

WINDOW: Final = 512
WORDS: Final = 507  # with the five special tokens the smallest vocabulary below
FRAME: Final = 6  # tokens that the template adds to a row of one question and one answer
SHAPES: Final = {  # hidden size, layers, heads, key-value heads, size of the feed-forward blocks, vocabulary
    "million": (256, 4, 4, 2, 688, 4096),  # 5 million parameters, of which the head has a fifth, as in Llama 3.2 1B
    "tiny": (64, 2, 4, 2, 128, 512),  # of which little but the loop's own work is seen
    "1b": (2048, 16, 32, 8, 8192, 128256),  # Llama 3.2 1B
    "3b": (3072, 28, 24, 8, 8192, 128256),  # Llama 3.2 3B
    "8b": (4096, 32, 32, 8, 14336, 128256),  # Llama 3.1 8B
}


def base(folder: Path, shape: str, corpus: list[str] | None = None, *, seed: int = 0, half: bool = False) -> Path:
    """A folder with configuration, tokenizer and random weights: a tokenizer of whole words, or of pieces learned from a corpus.

    `half`: weights in 16 bits, of which eight billion are drawn on a GPU where there is one.
    """
    from engine.train.initialise import initialise

    folder.mkdir(parents=True)
    hidden, layers, heads, key_heads, inner, vocabulary = SHAPES[shape]
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "max_position_embeddings": WINDOW,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": SPECIAL.index("<|end|>"),
        "pad_token_id": SPECIAL.index("<|pad|>"),
    }
    (folder / "config.json").write_text(json.dumps(config))
    (_pieces(corpus, vocabulary) if corpus else _words(vocabulary)).save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|end|>",
        "pad_token": "<|pad|>",
        "model_max_length": WINDOW,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    if half:
        drawing = get_context("spawn").Process(
            target=_drawn_in_half, args=(folder, seed)
        )  # which gives back the GPU's memory
        drawing.start()
        drawing.join()
        assert drawing.exitcode == 0, f"no weights in {folder}"
    else:
        initialise(folder, seed)
    return folder


def _drawn_in_half(folder: Path, seed: int) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)


def _special() -> list[AddedToken]:
    return [AddedToken(name, special=True, normalized=False) for name in SPECIAL]


def _words(vocabulary: int) -> Tokenizer:
    """One token a word, so that a row is as long as it is meant to be."""
    names = (*SPECIAL, *(f"w{word}" for word in range(vocabulary - len(SPECIAL))))
    tokenizer = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(_special())
    return tokenizer


def _pieces(corpus: list[str], vocabulary: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=_special(),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def lengths(count: int, *, seed: int) -> NDArray[np.int64]:
    """Tokens of `count` rows: lognormal, median 120, sigma .8, from 16 to 512."""
    drawn = np.exp(np.log(120) + 0.8 * np.random.default_rng(seed).standard_normal(count))
    return np.clip(drawn, 16, WINDOW).astype(np.int64)


def rows(path: Path, lengths: NDArray[np.int64], *, seed: int) -> Path:
    """Rows of so many tokens, drawn evenly from the smallest vocabulary; half of a row is its answer."""
    draw = np.random.default_rng(seed)
    with path.open("w") as file:
        for length in lengths:
            words = [f"w{word}" for word in draw.integers(0, WORDS, length - FRAME)]
            cut = len(words) // 2
            row = {"instruction": " ".join(words[:cut]), "output": " ".join(words[cut:])}
            file.write(json.dumps(row) + "\n")
    return path


def pubmedqa(source: Path) -> list[str]:
    """The texts of PubMedQA, for a tokenizer to learn from."""
    found = json.loads(source.read_text())
    return [" ".join([row["QUESTION"], *row["CONTEXTS"], row["LONG_ANSWER"]]) for row in found.values()]
