"""What the model will really see: an example as tokens, and which of them the loss counts.

The supervised tokens are found by rendering prefixes: the conversation up to a response, and with it. Their tokens are compared with the
tokens of the whole, so nothing is guessed about a template. Where a template or tokenizer breaks that, `Rendered.notes` says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from jinja2.exceptions import TemplateError

from engine import profile
from engine.data.chat_template import compiled
from engine.data.examples import Example, Message
from engine.data.templates import template_source
from engine.data.tokenizer import ModelTokenizer
from engine.errors import Problem

Note = Literal["not_prefix", "turn_masked", "eos_appended", "no_eos", "input_cut"]
THINKING: Final = re.compile(r"\s*<think>.*?</think>\s*", re.DOTALL)
EMPTY_THINKING: Final = "<think>\n\n</think>\n\n"


@dataclass(frozen=True)
class Rendered:
    """An example as tokens.

    `ids` and `supervised` have one entry a token; `text` is what was tokenised. `cut` counts tokens that the input lost. `dropped` says why
    the example cannot be trained on, or is empty. `notes` are things that a person should know about this example.
    """

    ids: list[int]
    supervised: list[bool]
    text: str
    cut: int = 0
    dropped: str = ""
    notes: tuple[Note, ...] = ()


class Renderer:
    """Renders examples and prompts with one tokenizer and template; the same for screen, training and evaluation."""

    def __init__(
        self,
        tokenizer: ModelTokenizer,
        template: profile.Template,
        loss_on: Literal["responses", "all"] = "responses",
        max_tokens: int | None = None,
    ) -> None:
        """`max_tokens` None renders examples at their full length.

        Raises:
            Problem: there is no such template, or it is broken (code `template`).
        """
        self.tokenizer = tokenizer
        self.template = template
        self.loss_on = loss_on
        self.max_tokens = max_tokens
        source = template_source(template, tokenizer)
        try:
            self._compiled = compiled(source)
        except TemplateError as error:
            raise Problem(f"The template {template.name} is broken", f"{error}.", code="template") from error
        self._knows_thinking = "enable_thinking" in source
        self._values: dict[str, object] = dict(tokenizer.special)
        if template.name in ("alpaca", "plain"):
            self._values.setdefault("eos_token", "")
        if template.thinking == "empty" and self._knows_thinking:
            self._values["enable_thinking"] = False
        turn_end = self._turn_end()
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys([*tokenizer.eos_ids, *turn_end]))
        """Tokens that end a response: the model's EOS ids and the template's end of turn."""

    def text(self, messages: Sequence[Message], *, generation: bool) -> str:
        """The conversation as the template writes it; `generation` adds what comes before a response.

        Raises:
            Problem: the template refuses these messages (code `template`).
        """
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return self._compiled.render(
                messages=turns, tools=None, documents=None, add_generation_prompt=generation, **self._values
            )
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            roles = ", ".join(message.role for message in messages)
            raise Problem(
                "The chat template refuses a conversation", f"It says: {error} (roles {roles}).", code="template"
            ) from error

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The tokens of a conversation that a response is to follow, as `apply_chat_template(add_generation_prompt=True)` gives them."""
        return self.tokenizer.encode(self.text(self._prepared(messages), generation=True))

    def render(self, example: Example) -> Rendered:
        """The example's tokens, cut or dropped as the template's `too_long` says.

        Raises:
            Problem: it is too long and `too_long` is `fail` (code `data`); the template refuses it (code `template`).
        """
        messages = self._prepared(example.messages)
        while messages and messages[-1].role != "assistant":
            messages = messages[:-1]
        if not messages:
            return Rendered([], [], "", dropped="no response")
        rendered = self._tokens(messages)
        if not messages[-1].content.strip():
            return replace(rendered, dropped="empty response")
        if self.max_tokens is not None and len(rendered.ids) > self.max_tokens:
            rendered = self._shortened(example, messages, rendered, self.max_tokens)
        if not rendered.dropped and not any(rendered.supervised):
            rendered = replace(rendered, dropped="nothing supervised")
        return rendered

    def cut_prompt(self, example: Example, rendered: Rendered) -> str:
        """The last user message as `render` left it, so that a suite asks exactly what training asked."""
        return _without_tail(example, self._kept_input(example, rendered.cut)) if rendered.cut else example.prompt

    def _prepared(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """The messages with the profile's system message and thinking applied, and without an EOS that the template adds itself."""
        eos = self.tokenizer.eos_token
        turns = [self._said(message, eos) if message.role == "assistant" else message for message in messages]
        if self.template.system and not any(message.role == "system" for message in turns):
            turns.insert(0, Message("system", self.template.system))
        return tuple(turns)

    def _said(self, message: Message, eos: str | None) -> Message:
        content = message.content
        if eos and content.endswith(eos):
            content = content.removesuffix(eos)
        if self.template.thinking != "keep":
            block = EMPTY_THINKING if self.template.thinking == "empty" and not self._knows_thinking else ""
            content = THINKING.sub(lambda _: block, content)
        return Message(message.role, content)

    def _tokens(self, messages: tuple[Message, ...]) -> Rendered:
        text = self.text(messages, generation=False)
        ids = self.tokenizer.encode(text)
        supervised = [False] * len(ids)
        notes: list[Note] = []
        for place, message in enumerate(messages):
            if message.role != "assistant":
                continue
            last = place == len(messages) - 1
            prompt = self.tokenizer.encode(self.text(messages[:place], generation=True)) if place else []
            through = ids if last else self.tokenizer.encode(self.text(messages[: place + 1], generation=False))
            start = _common(prompt, ids)
            if _common(through, ids) < len(through) or (start < len(prompt) and not last):
                notes.append("turn_masked")  # as history the template writes this turn differently
                continue
            if start < len(prompt):
                notes.append("not_prefix")
            stop = self._end(ids, start, len(through))
            supervised[start:stop] = [True] * (stop - start)
            if last and not any(token in self.stop_ids for token in ids[start:stop]):
                notes.append("eos_appended" if self.tokenizer.eos_ids else "no_eos")
        if "eos_appended" in notes:
            ids = [*ids, self.tokenizer.eos_ids[0]]
            supervised = [*supervised, True]
        if self.loss_on == "all":
            supervised = [True] * len(ids)
        return Rendered(ids, supervised, text, notes=tuple(dict.fromkeys(notes)))

    def _end(self, ids: list[int], start: int, stop: int) -> int:
        """Where a response's supervision ends: after its end of turn; blanks that follow are the template's, never generated."""
        ends = [place for place in range(start, stop) if ids[place] in self.stop_ids]
        if ends and not self.tokenizer.decode(ids[ends[-1] + 1 : stop]).strip():
            return ends[-1] + 1
        return stop

    def _shortened(self, example: Example, messages: tuple[Message, ...], full: Rendered, most: int) -> Rendered:
        """The example with the end of its input cut off until it fits, or dropped with the reason."""
        if self.template.too_long == "fail":
            raise Problem(
                f"{example.where}: {len(full.ids):,} tokens, {most:,} allowed",
                "template.too_long = fail stops at the first such row.",
                "Raise template.max_tokens, or set template.too_long = cut_input or drop.",
                code="data",
            )
        if self.template.too_long == "drop":
            return replace(full, dropped="too long")
        whole = len(self.tokenizer.encode(example.input_text))
        cut = 0
        rendered = full
        while len(rendered.ids) > most and cut < whole:
            cut = min(whole, cut + len(rendered.ids) - most)
            content = _without_tail(example, self._kept_input(example, cut))
            rendered = self._tokens(_with_last_user(messages, content))
        if len(rendered.ids) <= most:
            return replace(rendered, cut=cut, notes=(*rendered.notes, "input_cut"))
        alone = len(rendered.ids) - sum(rendered.supervised) >= most
        reason = "prompt fills the window" if alone and self.loss_on == "responses" else "response does not fit"
        return replace(full, dropped=reason)

    def _kept_input(self, example: Example, cut: int) -> str:
        """The input without its last `cut` tokens."""
        encoding = self.tokenizer.tokenizer.encode(example.input_text, add_special_tokens=False)
        kept = len(encoding.ids) - cut
        return example.input_text[: encoding.offsets[kept - 1][1]] if kept > 0 else ""

    def _turn_end(self) -> list[int]:
        """The special token that the template writes after a response, found with a dummy conversation."""
        marker = "Zq7"
        try:
            text = self.text((Message("user", "x"), Message("assistant", marker)), generation=False)
        except Problem:
            return []  # a template that wants more than a question and a response says so when it is used
        tail = self.tokenizer.encode(text.rpartition(marker)[2])
        return [token for token in tail if token in self.tokenizer.special_ids][:1]


def _common(some: list[int], others: list[int]) -> int:
    """The length of the longest common prefix."""
    if others[: len(some)] == some:
        return len(some)
    for place, (one, other) in enumerate(zip(some, others, strict=False)):
        if one != other:
            return place
    return min(len(some), len(others))


def _without_tail(example: Example, kept: str) -> str:
    """The last user message with its input replaced by the part that is kept."""
    return (example.prompt.removesuffix(example.input_text) + kept).rstrip()


def _with_last_user(messages: tuple[Message, ...], content: str) -> tuple[Message, ...]:
    last = max(place for place, message in enumerate(messages) if message.role == "user")
    return tuple(Message("user", content) if place == last else message for place, message in enumerate(messages))
