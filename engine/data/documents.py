"""Plain text as tokens, for continued pre-training: no chat template, every token supervised, BOS and EOS once a document.

A document that is longer than the limit is cut into consecutive pieces. Each begins with the last token of the one before, which is not
counted again: so every token but a document's first is predicted once, and no piece is left without anything to predict.
"""

from __future__ import annotations

from typing import Literal

from engine.data.examples import Example
from engine.data.rendered import Note, Rendered
from engine.data.tokenizer import ModelTokenizer
from engine.errors import Problem


class Documents:
    """Makes samples of documents."""

    def __init__(
        self,
        tokenizer: ModelTokenizer,
        too_long: Literal["cut_input", "drop", "fail"] = "cut_input",
        max_tokens: int | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.too_long = too_long
        self.max_tokens = max_tokens
        self.stop_ids = tokenizer.eos_ids
        bos = tokenizer.bos_token
        self._bos = tokenizer.tokenizer.token_to_id(bos) if bos and tokenizer.adds_bos else None

    def within(self, max_tokens: int | None) -> Documents:
        """The same with another limit."""
        return Documents(self.tokenizer, self.too_long, max_tokens)

    def samples(self, example: Example) -> tuple[Rendered, ...]:
        """The document, or its pieces in order.

        Raises:
            Problem: it is longer than `max_tokens` and `too_long` is `fail` (code `data`).
        """
        text = example.text or ""
        if not text.strip():
            return (Rendered([], [], text, dropped="empty text"),)
        encoding = self.tokenizer.tokenizer.encode(text, add_special_tokens=False)
        ids, ends = list(encoding.ids), [end for _, end in encoding.offsets]
        if self._bos is not None and ids[:1] != [self._bos]:
            ids, ends = [self._bos, *ids], [0, *ends]
        notes: tuple[Note, ...] = () if self.tokenizer.eos_ids else ("no_eos",)
        if self.tokenizer.eos_ids and ids[-1] not in self.tokenizer.eos_ids:
            ids, ends = [*ids, self.tokenizer.eos_ids[0]], [*ends, len(text)]
        most = self.max_tokens
        if most is None or len(ids) <= most:
            return (Rendered(ids, [True] * len(ids), text, notes=notes),)
        if self.too_long == "fail":
            raise too_long(example.where, len(ids), most)
        if self.too_long == "drop":
            return (Rendered(ids, [True] * len(ids), text, dropped="too long", notes=notes),)
        starts = range(0, len(ids) - 1, most - 1)
        return tuple(
            Rendered(
                ids[start : start + most],
                [start == 0, *[True] * (len(ids[start : start + most]) - 1)],
                text[ends[start - 1] if start else 0 : ends[min(start + most, len(ids)) - 1]],
                notes=(*notes, "cut_in_pieces"),
                part=f"piece {place} of {len(starts)}",
            )
            for place, start in enumerate(starts, 1)
        )

    def cut_prompt(self, example: Example, rendered: Rendered) -> str:
        """The document."""
        return example.text or ""


def too_long(where: str, tokens: int, most: int) -> Problem:
    """A row that is too long where that is to stop."""
    return Problem(
        f"{where}: {tokens:,} tokens, {most:,} allowed",
        "template.too_long = fail stops at the first such row.",
        "Raise template.max_tokens, or set template.too_long = cut_input or drop.",
        code="data",
    )
