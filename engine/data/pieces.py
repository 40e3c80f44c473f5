"""A rendered example as pieces that can be shown: each token with the text it stands for."""

from __future__ import annotations

from dataclasses import dataclass

from engine.data.render import Rendered
from engine.data.tokenizer import ModelTokenizer


@dataclass(frozen=True)
class Piece:
    """A token: the text it adds (empty where several tokens make one letter), and whether the loss counts it."""

    token: int
    text: str
    supervised: bool
    special: bool


def pieces(rendered: Rendered, tokenizer: ModelTokenizer) -> list[Piece]:
    """The tokens of an example in order; their texts together are the rendered text and an EOS that was appended."""
    encoding = tokenizer.tokenizer.encode(rendered.text, add_special_tokens=False)
    made: list[Piece] = []
    done = 0
    for place, (token, supervised) in enumerate(zip(rendered.ids, rendered.supervised, strict=True)):
        if place < len(encoding.ids):
            end = max(done, encoding.offsets[place][1])
            text, done = rendered.text[done:end], end
        else:
            text = tokenizer.decode([token])
        made.append(Piece(token, text, supervised, token in tokenizer.special_ids))
    return made
