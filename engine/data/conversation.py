"""A conversation as its template writes it: text, and the tokens of a prompt, equal to transformers' `apply_chat_template`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import jinja2
from jinja2.exceptions import TemplateError

from engine import profile
from engine.data.chat_template import compiled
from engine.data.examples import Message
from engine.data.messages import Object
from engine.data.templates import template_source
from engine.data.tokenizer import ModelTokenizer
from engine.errors import Problem

THINKING: Final = re.compile(r"\s*<think>.*?</think>\s*", re.DOTALL)
EMPTY_THINKING: Final = "<think>\n\n</think>\n\n"
MARKER: Final = "Zq7"  # stands for text whose place in a rendered conversation is looked for


class Conversation:
    """Writes conversations with one tokenizer's template, the profile's system message and its way with thinking."""

    def __init__(self, tokenizer: ModelTokenizer, template: profile.Template) -> None:
        """Compile the template.

        Raises:
            Problem: there is no such template, or it is broken (code `template`).
        """
        self.tokenizer = tokenizer
        self.template = template
        source = template_source(template, tokenizer)
        self._compiled = _compiled(source, template.name)
        with_tools = tokenizer.tool_template if template.name == "chat" else None
        self._with_tools = _compiled(with_tools, "for tools") if with_tools else self._compiled
        self._knows_thinking = "enable_thinking" in source
        self._values: dict[str, object] = dict(tokenizer.special)
        if template.name in ("alpaca", "plain"):
            self._values.setdefault("eos_token", "")
        if template.thinking == "empty" and self._knows_thinking:
            self._values["enable_thinking"] = False
        probe = self._probe()
        self.writes_responses = probe is None or MARKER in probe
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys([*tokenizer.eos_ids, *self._turn_ends(probe or "")]))
        """Tokens that end a response: the model's EOS ids and the template's end of turn."""

    def text(self, messages: Sequence[Message], *, generation: bool, tools: Sequence[Object] = ()) -> str:
        """The conversation as the template writes it; `generation` adds what comes before a response.

        Raises:
            Problem: the template refuses these messages (code `template`).
        """
        template = self._with_tools if tools else self._compiled
        try:
            return template.render(
                messages=[message.seen() for message in messages],
                tools=list(tools) or None,
                documents=None,
                add_generation_prompt=generation,
                **self._values,
            )
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            roles = ", ".join(message.role for message in messages)
            raise Problem(
                "The chat template refuses a conversation", f"It says: {error} (roles {roles}).", code="template"
            ) from error

    def prompt(self, messages: Sequence[Message], tools: Sequence[Object] = ()) -> list[int]:
        """The tokens of a conversation that a response is to follow, as `apply_chat_template(add_generation_prompt=True)` gives them."""
        return self.tokenizer.encode(self.text(self.prepared(messages), generation=True, tools=tools))

    def prepared(self, messages: Sequence[Message], *, system: bool = True) -> tuple[Message, ...]:
        """The messages with the profile's system message and thinking applied, and without an EOS that the template adds itself."""
        turns = [self._said(message) if message.role == "assistant" else message for message in messages]
        if system and self.template.system and not any(message.role == "system" for message in turns):
            turns.insert(0, Message("system", self.template.system))
        return tuple(turns)

    def _said(self, message: Message) -> Message:
        content, eos = message.content, self.tokenizer.eos_token
        if eos and content.endswith(eos):
            content = content.removesuffix(eos)
        if self.template.thinking == "keep":
            return replace(message, content=content)
        block = EMPTY_THINKING if self.template.thinking == "empty" and not self._knows_thinking else ""
        return replace(message, content=THINKING.sub(lambda _: block, content), reasoning="")

    def _probe(self) -> str | None:
        """A dummy conversation as the template writes it; None where it wants more than a question and a response, and says so when used."""
        try:
            return self.text((Message("user", "x"), Message("assistant", MARKER)), generation=False)
        except Problem:
            return None

    def _turn_ends(self, text: str) -> list[int]:
        """The special token that the template writes after a response."""
        tail = self.tokenizer.encode(text.rpartition(MARKER)[2])
        return [token for token in tail if token in self.tokenizer.special_ids][:1]


def _compiled(source: str, name: str) -> jinja2.Template:
    try:
        return compiled(source)
    except TemplateError as error:
        raise Problem(f"The template {name} is broken", f"{error}.", code="template") from error
