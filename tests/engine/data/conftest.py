"""A tokenizer with every special token that the templates of these tests write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from engine.data.tokenizer import ModelTokenizer, load_tokenizer

SPECIAL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header|>", "<|end_header|>", "<|eot|>", "<pad>")
TEXT = [
    "Is the voice raised or normal in this recording of steady pitch?",
    "Yes. The harmonics to noise ratio is low and jitter is one percent.",
    "No. It is a maybe, said the doctor; ask again about blood pressure and aspirin.",
    "user assistant system ### Instruction: ### Input: ### Response: Below is an instruction",
]

MakeTokenizer = Callable[..., ModelTokenizer]


def write_tokenizer(
    folder: Path, template: str | None, *, eos: str = "<|im_end|>", add_bos: bool = False, pad: str = "<pad>"
) -> Path:
    """A tokenizer folder as transformers saves it, with or without a chat template; `add_bos` as Llama's do."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(name, special=True, normalized=False) for name in SPECIAL]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    if add_bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": {"__type": "AddedToken", "content": eos},
        "pad_token": pad,
        "model_max_length": 10**30,
    }
    if template is not None:
        settings["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 2048, "eos_token_id": 1}))
    return folder


@pytest.fixture
def make_tokenizer(tmp_path: Path) -> MakeTokenizer:
    """Makes a loaded tokenizer with a chat template: `make_tokenizer(CHATML, eos=..., add_bos=...)`."""

    def make(template: str | None, *, eos: str = "<|im_end|>", add_bos: bool = False) -> ModelTokenizer:
        return load_tokenizer(str(write_tokenizer(tmp_path / "base", template, eos=eos, add_bos=add_bos)))

    return make
