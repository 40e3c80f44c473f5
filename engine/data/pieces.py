"""A rendered example as pieces that can be shown: each token with the text it stands for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from engine.data.rendered import Rendered, starts_with
from engine.data.tokenizer import ModelTokenizer

LETTER: Final = 6  # tokens that one letter may be made of, at most, in a byte-level vocabulary


@dataclass(frozen=True)
class Piece:
    """A token: the text it adds (empty where several tokens make one letter), and whether the loss counts it."""

    token: int
    text: str
    supervised: bool
    special: bool


def pieces(rendered: Rendered, tokenizer: ModelTokenizer) -> list[Piece]:
    """The tokens in order; their texts together are the rendered text, and BOS or EOS where they were added to it."""
    texts = list(_texts(rendered, tokenizer))
    return [
        Piece(token, text, supervised, token in tokenizer.special_ids)
        for token, text, supervised in zip(rendered.ids, texts, rendered.supervised, strict=True)
    ]


def _texts(rendered: Rendered, tokenizer: ModelTokenizer) -> Iterator[str]:
    joint = rendered.joint or 0
    parts = [part for part in (rendered.text[:joint], rendered.text[joint:]) if part]
    encodings = [tokenizer.tokenizer.encode(part, add_special_tokens=False) for part in parts]
    known = [token for encoding in encodings for token in encoding.ids]
    if not starts_with(rendered.ids, known):  # a piece from the middle of a document
        yield from _decoded(rendered.ids, tokenizer)
        return
    for part, encoding in zip(parts, encodings, strict=True):
        done = 0
        for _, stop in encoding.offsets:
            end = max(done, stop)
            yield part[done:end]
            done = end
    yield from (tokenizer.decode([token]) for token in rendered.ids[len(known) :])


def _decoded(ids: list[int], tokenizer: ModelTokenizer) -> Iterator[str]:
    """Each token's text from its id alone; a letter of several tokens stands at its last."""
    waiting: list[int] = []
    for token in ids:
        waiting.append(token)
        text = tokenizer.decode(waiting)
        whole = not text.endswith("\ufffd") or len(waiting) == LETTER
        yield text if whole else ""
        if whole:
            waiting = []
