"""What the model will really see: a conversation as tokens, and which of them the loss counts.

The supervised tokens are found by rendering prefixes: the conversation up to a response, and with it. Their tokens are compared with the
tokens of the whole, so nothing is guessed about a template. Where a template writes a response differently once it is history - thinking
is stripped, the last turn ends with another token - each response becomes a sample of its own, as the model sees it at that moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Literal

from engine import profile
from engine.data.conversation import MARKER, Conversation
from engine.data.documents import too_long
from engine.data.examples import Example, Message
from engine.data.messages import Object, renamed
from engine.data.rendered import Note, Rendered, starts_with
from engine.data.side import Side, asking, side_from
from engine.data.tokenizer import ModelTokenizer
from engine.errors import Problem


class Renderer(Conversation):
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
        super().__init__(tokenizer, template)
        self.loss_on = loss_on
        self.max_tokens = max_tokens
        self._ends = tokenizer.special_ids | set(self.stop_ids)  # a tool call may end with another token than an answer

    def within(self, max_tokens: int | None) -> Renderer:
        """The same with another limit."""
        return Renderer(self.tokenizer, self.template, self.loss_on, max_tokens)

    def samples(self, example: Example) -> tuple[Rendered, ...]:
        """The example's sequences: one where the template leaves earlier responses as they were, else one a response; for preferences two.

        Raises:
            Problem: it is too long and `too_long` is `fail` (code `data`); the template refuses it (code `template`).
        """
        try:
            made = self._pair(example) if example.rejected else self._responses(example)
            blind = self._blind_to_tools(example)
        except Problem as problem:
            if problem.code != "template":
                raise
            raise Problem(f"{example.where}: {problem.what}", problem.why, problem.do, code="template") from problem
        return tuple(replace(one, notes=(*one.notes, "tools_ignored")) for one in made) if blind else made

    def cut_prompt(self, example: Example, rendered: Rendered) -> str:
        """The last user message as `samples` left it, so that a suite asks exactly what training asked."""
        return _without_tail(example, self._kept_input(example, rendered.cut)) if rendered.cut else example.prompt

    def _responses(self, example: Example) -> tuple[Rendered, ...]:
        """Every response of a conversation, supervised once."""
        messages = self.prepared(example.messages)
        while messages and messages[-1].role != "assistant":
            messages = messages[:-1]
        if not messages:
            return (Rendered([], [], "", dropped="no response"),)
        turns = tuple(place for place, message in enumerate(messages) if message.role == "assistant")
        side = Side(messages, turns, example.tools)
        rendered = self._tokens(side)
        if wrong := self._unusable(side):
            return (replace(rendered or self._last(side), dropped=wrong),)
        if rendered is not None:
            return self._fitted(example, (side,), (rendered,))
        parts = (side.through(turns[:count]) for count in range(1, len(turns) + 1))
        alone = (replace(part, turns=part.turns[-1:]) for part in parts)
        made = [sample for part in alone for sample in self._fitted(example, (part,), (self._last(part),))]
        note: Note = "one_sample_a_turn"
        return tuple(
            replace(one, part=f"turn {place} of {len(made)}", notes=(*one.notes, note))
            for place, one in enumerate(made, 1)
        )

    def _pair(self, example: Example) -> tuple[Rendered, ...]:
        """The chosen and the rejected conversation, from where they part; both are cut alike or left out."""
        chosen = self.prepared(example.messages)
        shared = example.shared + len(chosen) - len(example.messages)
        rejected = (*chosen[:shared], *self.prepared(example.rejected, system=False))
        sides = tuple(side_from(messages, shared, example.tools) for messages in (chosen, rejected))
        found = [self._tokens(side) for side in sides]
        made = tuple(one or self._last(side) for one, side in zip(found, sides, strict=True))
        wrong = "identical responses" if chosen == rejected else next(filter(None, map(self._unusable, sides)), "")
        if not wrong and None in found:
            wrong = "responses rewritten"
        made = tuple(replace(one, dropped=wrong) for one in made) if wrong else self._fitted(example, sides, made)
        return tuple(replace(one, part=part) for one, part in zip(made, ("chosen", "rejected"), strict=True))

    def _unusable(self, side: Side) -> str:
        """Why nothing can be learned from these responses, or nothing."""
        if any(side.messages[place].empty for place in side.turns):
            return "empty response"
        if not self.writes_responses:
            return "response not written"
        calling = [(place, turn) for place, turn in enumerate(side.messages) if place in side.turns and turn.calls]
        text = self.text(side.messages, generation=False, tools=side.tools) if calling else ""
        for place, turn in calling:
            for other in renamed(turn):
                told = (*side.messages[:place], other, *side.messages[place + 1 :])
                if text == self.text(told, generation=False, tools=side.tools):
                    return "tool call not written"
        return ""

    def _blind_to_tools(self, example: Example) -> bool:
        """Whether the template writes neither the tools nor what they answered, though the row has them."""
        told = tuple(replace(turn, content=MARKER) if turn.role == "tool" else turn for turn in example.messages)
        if not example.tools and told == example.messages:
            return False
        text = self.text(example.messages, generation=False, tools=example.tools)
        if example.tools and text == self.text(example.messages, generation=False):
            return True
        return told != example.messages and text == self.text(told, generation=False, tools=example.tools)

    def _tokens(self, side: Side) -> Rendered | None:
        """The conversation with its responses supervised; None where the template or tokenizer writes an earlier one differently now."""
        last = self._last(side)
        if self.loss_on == "all":
            return replace(last, supervised=[True] * len(last.ids))
        if len(side.turns) == 1:
            return last
        if "not_prefix" in last.notes or last.joint is not None:
            return None
        spans = self._earlier(side, last)
        if spans is None:
            return None
        supervised = list(last.supervised)
        for start, stop in spans:
            end = self._end(last.ids, start, stop)
            supervised[start:end] = [True] * (end - start)
        return replace(last, supervised=supervised)

    def _earlier(self, side: Side, whole: Rendered) -> list[tuple[int, int]] | None:
        """Where each response but the last stands in the tokens of the whole; None where one is not written there as it was asked and said."""
        texts = [
            text
            for place in side.turns[:-1]
            for text in (
                self._asked(side.messages[:place], side.tools),
                self.text(side.messages[: place + 1], generation=False, tools=side.tools),
            )
        ]
        places = [0, *map(len, texts), len(whole.text)]
        if not all(whole.text.startswith(text) for text in texts) or not all(a < b for a, b in pairwise(places[1:])):
            return None
        # Parts that give the tokens of the whole give those of every prefix, too: long conversations are not encoded again and again.
        parts = [self.tokenizer.encode(whole.text[start:stop]) for start, stop in pairwise(places)]
        if starts_with(whole.ids, [token for part in parts for token in part]):
            ends = list(accumulate(map(len, parts)))
        else:
            heads = [self.tokenizer.encode(text) for text in texts]
            if not all(starts_with(whole.ids, head) for head in heads):
                return None
            ends = list(map(len, heads))
        return list(zip(ends[0::2], ends[1::2], strict=False))

    def _last(self, side: Side) -> Rendered:
        """The conversation with its last response supervised."""
        place = side.turns[-1]
        text = self.text(side.messages, generation=False, tools=side.tools)
        asked = self._asked(side.messages[:place], side.tools)
        if not text.startswith(asked) and (answer := self._answer(side, text, asked)):
            text = asked + answer
        prompt, ids = self.tokenizer.encode(asked), self.tokenizer.encode(text)
        start, joint = len(prompt), None
        notes: list[Note] = []
        if not starts_with(ids, prompt):
            apart = [*prompt, *self.tokenizer.encode(text[len(asked) :])]
            if text.startswith(asked) and self.tokenizer.decode(apart) == self.tokenizer.decode(ids):
                # One token would reach over the end of the prompt: where the model is asked, it cannot.
                ids, joint = apart, len(asked)
            else:
                start = _common(prompt, ids)
                notes.append("not_prefix")
        stop = self._end(ids, start, len(ids))
        if stop > start and ids[stop - 1] not in self._ends:
            notes.append("eos_appended" if self.tokenizer.eos_ids else "no_eos")
            ids = [*ids, *self.tokenizer.eos_ids[:1]]
            stop = len(ids)
        supervised = [start <= place < stop for place in range(len(ids))]
        return Rendered(ids, supervised, text, notes=tuple(notes), joint=joint)

    def _answer(self, side: Side, text: str, asked: str) -> str:
        """The last response's own text, where with it the template writes what was before it differently; empty where it is not to be found.

        It begins behind an opening of a response: one after which another response differs, and before which another question does.
        """
        before = (
            self.text(side.messages[: side.turns[-1]], generation=False, tools=side.tools) if side.turns[-1] else ""
        )
        opening = asked.removeprefix(before)
        if not opening or opening == asked:
            return ""
        *history, last = side.messages
        another = self.text(
            (*history, replace(last, content=MARKER, calls=(), reasoning="")), generation=False, tools=side.tools
        )
        history[-1] = replace(history[-1], content=MARKER)
        asked_else = self.text((*history, last), generation=False, tools=side.tools)
        place = text.rfind(opening, _common(text, asked_else), _common(text, another))
        return text[place + len(opening) :] if place >= 0 else ""

    def _asked(self, messages: Sequence[Message], tools: Sequence[Object]) -> str:
        """What the model is shown before a response; before one that opens the conversation many templates know nothing to write."""
        try:
            return self.text(messages, generation=True, tools=tools)
        except Problem:
            if messages:
                raise
            return ""

    def _end(self, ids: list[int], start: int, stop: int) -> int:
        """Where a response's supervision ends: after its end of turn; blanks that follow are the template's, never generated."""
        end = stop
        while end > start and ids[end - 1] not in self._ends and not self.tokenizer.decode(ids[end - 1 : end]).strip():
            end -= 1
        return end if end > start and ids[end - 1] in self._ends else stop

    def _fitted(self, example: Example, sides: tuple[Side, ...], full: tuple[Rendered, ...]) -> tuple[Rendered, ...]:
        """The sequences within `max_tokens`: the end of the input is cut off, of all alike, until the longest fits; or all are dropped."""
        most = self.max_tokens
        longest = max(full, key=lambda one: len(one.ids))
        if most is None or len(longest.ids) <= most:
            return tuple(one if any(one.supervised) else replace(one, dropped="nothing supervised") for one in full)
        if self.template.too_long == "fail":
            raise too_long(example.where, len(longest.ids), most)
        if self.template.too_long == "drop":
            return tuple(replace(one, dropped="too long") for one in full)
        whole = len(self.tokenizer.encode(example.input_text))
        cut, rendered = 0, full
        while len(longest.ids) > most and cut < whole:
            cut = min(whole, cut + len(longest.ids) - most)
            content = _without_tail(example, self._kept_input(example, cut))
            rendered = tuple(self._tokens(asking(side, content)) or self._last(asking(side, content)) for side in sides)
            longest = max(rendered, key=lambda one: len(one.ids))
        if len(longest.ids) <= most:
            return tuple(replace(one, cut=cut, notes=(*one.notes, "input_cut")) for one in rendered)
        if len(sides) == 1 and len(sides[0].turns) > 1 and (shorter := self._shorter(sides[0], most)):
            return (shorter,)
        alone = len(longest.ids) - sum(longest.supervised) >= most
        reason = "prompt fills the window" if alone and self.loss_on == "responses" else "response does not fit"
        return tuple(replace(one, dropped=reason) for one in full)

    def _shorter(self, side: Side, most: int) -> Rendered | None:
        """The conversation up to the last response that fits."""
        for count in range(len(side.turns) - 1, 0, -1):
            rendered = self._tokens(side.through(side.turns[:count]))
            if rendered is not None and len(rendered.ids) <= most:
                return replace(rendered, notes=(*rendered.notes, "turns_cut"))
        return None

    def _kept_input(self, example: Example, cut: int) -> str:
        """The input without its last `cut` tokens."""
        encoding = self.tokenizer.tokenizer.encode(example.input_text, add_special_tokens=False)
        kept = len(encoding.ids) - cut
        return example.input_text[: encoding.offsets[kept - 1][1]] if kept > 0 else ""


def _common(some: Sequence[object], others: Sequence[object]) -> int:
    """The length of the longest common prefix."""
    pairs = zip(some, others, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(some), len(others)))


def _without_tail(example: Example, kept: str) -> str:
    """The last user message with its input replaced by the part that is kept."""
    return (example.prompt.removesuffix(example.input_text) + kept).rstrip()
