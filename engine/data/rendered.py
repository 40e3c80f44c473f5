"""An example as tokens: what every way of rendering gives."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from engine.data.examples import Example
from engine.data.tokenizer import ModelTokenizer

Note = Literal[
    "not_prefix",
    "eos_appended",
    "no_eos",
    "input_cut",
    "turns_cut",
    "cut_in_pieces",
    "one_sample_a_turn",
    "tools_ignored",
]


@dataclass(frozen=True)
class Rendered:
    """One sequence that the model is shown.

    `ids` and `supervised` have one entry a token; `text` is what was tokenised, in two parts where `joint` names a letter. `cut` counts tokens
    that the input lost. `dropped` says why it cannot be trained on, or is empty. `notes` are things that a person should know. `part` says
    which of its example's sequences it is, where there are several.
    """

    ids: list[int]
    supervised: list[bool]
    text: str
    cut: int = 0
    dropped: str = ""
    notes: tuple[Note, ...] = ()
    joint: int | None = None
    part: str = ""


class Sampler(Protocol):
    """What makes samples of examples: one sequence or more, each with its example's id.

    `stop_ids` are the tokens that end what the model says.
    """

    tokenizer: ModelTokenizer
    max_tokens: int | None
    stop_ids: tuple[int, ...]

    @abstractmethod
    def samples(self, example: Example) -> tuple[Rendered, ...]:
        """At least one; one that cannot be trained on says why in `dropped`.

        Raises:
            Problem: it is longer than `max_tokens` and that is to stop (code `data`); the template refuses it (code `template`).
        """

    @abstractmethod
    def within(self, max_tokens: int | None) -> Sampler:
        """The same with another limit; None renders at full length."""

    @abstractmethod
    def cut_prompt(self, example: Example, rendered: Rendered) -> str:
        """What is asked, as `samples` left it, so that a suite asks exactly what training asked."""


def starts_with(ids: Sequence[int], head: Sequence[int]) -> bool:
    """Whether tokens begin with others."""
    return ids[: len(head)] == head
