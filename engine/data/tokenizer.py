"""A base model's tokenizer and what surrounds it: chat template, special tokens, the ids that end a turn. No torch, no transformers.

Read from a local folder or from the hub, where only these few small files are fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson
from tokenizers import Tokenizer

from engine.errors import Problem
from engine.hub_file import fetch

NAMED_TOKENS: Final = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
LONGEST_BELIEVABLE: Final = 100_000_000  # tokenizers that know no limit write 10^30

ReadFile = Callable[[str], bytes | None]


@dataclass(frozen=True)
class ModelTokenizer:
    """What turns text into a base model's tokens and back.

    `eos_ids` are all tokens that end a generation, the tokenizer's own first. `pad_id` is only ever masked. `max_length` is the
    model's window in tokens. `special` holds the named special tokens, as templates see them. `tool_template` is a template of its own for
    conversations with tools, which few models have.
    """

    base: str
    tokenizer: Tokenizer
    chat_template: str | None
    special: Mapping[str, str]
    eos_ids: tuple[int, ...]
    pad_id: int
    max_length: int | None
    special_ids: frozenset[int] = field(repr=False)
    tool_template: str | None = field(default=None, repr=False)

    @property
    def bos_token(self) -> str | None:
        """The token that starts a text, where the model has one."""
        return self.special.get("bos_token")

    @property
    def eos_token(self) -> str | None:
        """The token that ends a text."""
        return self.special.get("eos_token")

    @property
    def vocabulary(self) -> int:
        """Number of tokens, added ones included."""
        return self.tokenizer.get_vocab_size(with_added_tokens=True)

    @property
    def adds_bos(self) -> bool:
        """Whether the model is used to a BOS token before plain text."""
        bos = self.bos_token
        ids = self.tokenizer.encode("a").ids
        return bos is not None and bool(ids) and ids[0] == self.tokenizer.token_to_id(bos)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text in which special tokens are already written out; none are added."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: list[int]) -> str:
        """The text of tokens, special ones included."""
        return self.tokenizer.decode(ids, skip_special_tokens=False)


def load_tokenizer(base: str, revision: str = "main") -> ModelTokenizer:
    """The tokenizer of a local folder or of a model on the hub.

    Raises:
        Problem: unknown model or broken files (code `model`), none that could be read (`tokenizer`), access not granted (`gated`), hub not
            reached (`network`).
    """
    folder = Path(base).expanduser()
    if folder.is_dir():
        return _assemble(base, lambda name: _read_local(folder / name))
    if folder.is_absolute() or base.startswith((".", "~")):
        raise Problem(
            f"There is no folder {base}",
            "model.base names a folder on this machine.",
            "Give the folder that holds config.json and tokenizer.json, or a hub id.",
            code="model",
        )
    return _assemble(base, lambda name: fetch(base, name, revision, required=name == "tokenizer.json"))


def _read_local(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Problem(f"{path} cannot be read", f"{error.strerror}.", code="model") from error


def _assemble(base: str, read: ReadFile) -> ModelTokenizer:
    raw = read("tokenizer.json")
    if raw is None:
        raise Problem(
            f"{base} has no tokenizer.json",
            "Without it nothing can be tokenised; older models have only a SentencePiece file.",
            "Save the model's tokenizer once with transformers (AutoTokenizer ... save_pretrained) beside it.",
            code="tokenizer",
        )
    try:
        tokenizer = Tokenizer.from_buffer(raw)
    except Exception as error:  # the Rust library raises plain Exception
        raise Problem(f"tokenizer.json of {base} cannot be read", f"{error}.", code="model") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    config = _json(base, "config.json", read)
    settings = _json(base, "tokenizer_config.json", read)
    special = _special_tokens(settings, _json(base, "special_tokens_map.json", read))
    named_ids = [tokenizer.token_to_id(token) for token in special.values()]
    marked = [number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special]
    eos_ids = _eos_ids(tokenizer, special, _json(base, "generation_config.json", read), config)
    chat_template, tool_template = _chat_templates(settings, read)
    pad = tokenizer.token_to_id(special["pad_token"]) if "pad_token" in special else None
    return ModelTokenizer(
        base=base,
        tokenizer=tokenizer,
        chat_template=chat_template,
        tool_template=tool_template,
        special=special,
        eos_ids=eos_ids,
        pad_id=pad if pad is not None else eos_ids[0] if eos_ids else 0,
        max_length=_window(config, settings),
        special_ids=frozenset([*marked, *(number for number in named_ids if number is not None)]),
    )


def _json(base: str, name: str, read: ReadFile) -> dict[str, object]:
    raw = read(name)
    if raw is None:
        return {}
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Problem(f"{name} of {base} is not JSON", f"{error}.", code="model") from error
    return value if isinstance(value, dict) else {}


def _special_tokens(settings: Mapping[str, object], older: Mapping[str, object]) -> dict[str, str]:
    """The named special tokens; `tokenizer_config.json` wins over the older `special_tokens_map.json`."""
    found: dict[str, str] = {}
    for name in NAMED_TOKENS:
        for source in (settings, older):
            value = source.get(name)
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str) and text:
                found[name] = text
                break
    return found


def _chat_templates(settings: Mapping[str, object], read: ReadFile) -> tuple[str | None, str | None]:
    """The template, and that for conversations with tools where the model has several."""
    raw = read("chat_template.jinja")
    if raw is not None:
        return raw.decode("utf-8", errors="replace"), None
    template = settings.get("chat_template")
    if isinstance(template, list):  # several named ones, for tools or retrieval
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        default, tools = named.get("default"), named.get("tool_use")
        return default if isinstance(default, str) else None, tools if isinstance(tools, str) else None
    return template if isinstance(template, str) else None, None


def _eos_ids(
    tokenizer: Tokenizer, special: Mapping[str, str], generation: Mapping[str, object], config: Mapping[str, object]
) -> tuple[int, ...]:
    named = tokenizer.token_to_id(special["eos_token"]) if "eos_token" in special else None
    ids: list[int] = [] if named is None else [named]
    text = config.get("text_config")
    inner = text.get("eos_token_id") if isinstance(text, dict) else None
    for value in (generation.get("eos_token_id"), config.get("eos_token_id"), inner):
        ids += [number for number in (value if isinstance(value, list) else [value]) if isinstance(number, int)]
    return tuple(dict.fromkeys(ids))


def _window(config: Mapping[str, object], settings: Mapping[str, object]) -> int | None:
    text = config.get("text_config")
    parts = [config, text] if isinstance(text, dict) else [config]
    for part in parts:
        for name in ("max_position_embeddings", "n_positions", "max_sequence_length"):
            value = part.get(name)
            if isinstance(value, int) and value > 0:
                return value
    value = settings.get("model_max_length")
    return value if isinstance(value, int) and 0 < value < LONGEST_BELIEVABLE else None
