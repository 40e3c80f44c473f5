"""A small byte-level BPE tokenizer with a chat template, trained on the demonstration's own text.

Byte-level, so that any text can be written with it. The first special token is padding (id 0), the second ends a turn (id 1).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import orjson
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

PAD: Final = "<|pad|>"
END: Final = "<|end|>"
ROLES: Final = ("system", "user", "assistant")
CHAT_TEMPLATE: Final = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train(texts: Iterable[str], folder: Path, *, vocabulary: int, context: int) -> int:
    """Write `tokenizer.json` and `tokenizer_config.json` to `folder`, as transformers loads them; returns the number of tokens.

    `vocabulary` is the most tokens there will be, `context` the longest example in tokens that the model is made for.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    special = [PAD, END, *(f"<|{role}|>" for role in ROLES)]
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "pad_token": PAD,
        "eos_token": END,
        "extra_special_tokens": [f"<|{role}|>" for role in ROLES],
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2))
    return tokenizer.get_vocab_size()
