"""From a row of data to an example: messages between roles, with the part of the question that may be cut known by name; or a document.

A list in a column is joined with blank lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Final

from engine.data.messages import Message, Object, conversation, parsed, tools_of, value_text
from engine.errors import Problem

__all__ = ["ALPACA_INPUT", "CLASSES", "Example", "Message", "Row", "map_row", "value_text"]

CLASSES: Final = 20  # a label column with more different values holds free text
ALPACA_INPUT: Final = "### Input:\n"


@dataclass(frozen=True)
class Row:
    """One row as it stands in a file: `where` is file:line, or file and key."""

    id: str
    values: Mapping[str, object]
    where: str


@dataclass(frozen=True)
class Example:
    """What the model is shown. `input_text` ends the last user message and is the only part that may be cut; it may be empty.

    For preferences `messages` end with the chosen response and `rejected` is what stands in its place: both follow the first `shared`
    messages. A document has `text` and no messages. `tools` are JSON schemas.
    """

    id: str
    messages: tuple[Message, ...]
    input_text: str
    label: str | None
    where: str
    rejected: tuple[Message, ...] = ()
    shared: int = 0
    tools: tuple[Object, ...] = ()
    text: str | None = None

    @property
    def prompt(self) -> str:
        """The text of the last user message before the last response."""
        users = [message.content for message in self.messages if message.role == "user"]
        return users[-1] if users else ""

    @property
    def response(self) -> str:
        """The text of the last assistant message."""
        replies = [message.content for message in self.messages if message.role == "assistant"]
        return replies[-1] if replies else ""

    @property
    def system(self) -> str:
        """The row's own system message, or nothing."""
        return next((message.content for message in self.messages if message.role == "system"), "")

    @property
    def asked(self) -> str:
        """What rows must not have in common to stand on two sides of a split: all that the user says, or the document."""
        if self.text is not None:
            return self.text
        return "\n".join(message.content for message in self.messages if message.role == "user")

    @property
    def texts(self) -> tuple[str, ...]:
        """All text of the row that is the data's own."""
        said = (message.content for message in (*self.messages, *self.rejected))
        return (*said, self.text) if self.text is not None else tuple(said)


def map_row(row: Row, mappings: Mapping[str, str], *, input_heading: str = "") -> Example:
    """The example that a row is. `input_heading` goes before an input that is not empty (the alpaca template wants one).

    Raises:
        Problem: no conversation, tools or pair of responses where the mapping says that there are (code `data`).
    """
    values = row.values
    identity = _text(mappings, "id", values).strip() or row.id
    label = _text(mappings, "label", values).strip() or None
    if "text" in mappings:
        return Example(identity, (), "", label, row.where, text=_text(mappings, "text", values))
    tools = tools_of(values.get(mappings["tools"]), row.where) if "tools" in mappings else ()
    prompt, given = _prompt(row, mappings, input_heading)
    if "chosen" in mappings:
        chosen, rejected = (_side(row, mappings, part, prompt) for part in ("chosen", "rejected"))
        shared = _shared(chosen, rejected, row.where)
        return Example(identity, chosen, given, label, row.where, rejected[shared:], shared, tools)
    if "messages" in mappings:
        return Example(identity, prompt, "", label, row.where, tools=tools)
    response = Message("assistant", _text(mappings, "response", values).strip())
    return Example(identity, (*prompt, response), given, label, row.where, tools=tools)


def _prompt(row: Row, mappings: Mapping[str, str], input_heading: str) -> tuple[tuple[Message, ...], str]:
    """What comes before the response, and the input that ends it."""
    if "messages" in mappings:
        return conversation(row.values.get(mappings["messages"]), row.where), ""
    asked = parsed(row.values.get(mappings.get("instruction", "")))
    if isinstance(asked, list) and asked and isinstance(asked[0], dict):  # a prompt that is itself a conversation
        return conversation(asked, row.where), ""
    given = _text(mappings, "input", row.values).strip()
    question = _text(mappings, "instruction", row.values).strip()
    if given and question:
        question = f"{question}\n\n{input_heading}{given}"
    elif given:
        question = given
    system = _text(mappings, "system", row.values).strip()
    parts = (("system", system), ("user", question))
    return tuple(Message(role, text) for role, text in parts if text or role != "system"), given


def _side(row: Row, mappings: Mapping[str, str], part: str, prompt: tuple[Message, ...]) -> tuple[Message, ...]:
    """The conversation that ends with one of the two responses: a text, messages after the prompt, or the whole with its own prompt."""
    value = parsed(row.values.get(mappings[part]))
    if isinstance(value, list) and value and isinstance(value[0], dict):
        turns = conversation(value, row.where)
        if turns[0].role == "assistant":
            return (*prompt, *turns)
        system = () if turns[0].role == "system" else tuple(turn for turn in prompt if turn.role == "system")
        return (*system, *turns)
    if not any(turn.content.strip() for turn in prompt if turn.role == "user"):
        raise Problem(
            f"{row.where}: {part} answers nothing",
            "It is a text, and no column holds the question.",
            'Say which does: columns = { ..., instruction = "..." }; or give conversations as lists of messages.',
            code="data",
        )
    return (*prompt, Message("assistant", _text(mappings, part, row.values).strip()))


def _shared(chosen: tuple[Message, ...], rejected: tuple[Message, ...], where: str) -> int:
    """How many messages both begin with; the last response of each is never among them.

    Raises:
        Problem: what differs does not begin with a response on both sides.
    """
    most = min(len(chosen), len(rejected)) - 1
    same = next((place for place in range(most) if chosen[place] != rejected[place]), most)
    if chosen[same].role != "assistant" or rejected[same].role != "assistant":
        raise Problem(
            f"{where}: chosen and rejected do not answer the same",
            f"They differ from message {same + 1} on, which is by the {chosen[same].role} in chosen, by the "
            f"{rejected[same].role} in rejected.",
            "Both must share everything before the responses.",
            code="data",
        )
    return same


def _text(mappings: Mapping[str, str], part: str, values: Mapping[str, object]) -> str:
    mapping = mappings.get(part)
    if mapping is None:
        return ""
    if mapping in values or "{" not in mapping:
        return value_text(values.get(mapping))
    pieces: list[str] = []
    for literal, name, _, _ in Formatter().parse(mapping):
        pieces.append(literal)
        if name is not None:
            pieces.append(value_text(values.get(name)))
    return "".join(pieces)
