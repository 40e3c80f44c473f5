"""From a row of data to an example: messages between roles, with the part of the question that may be cut known by name.

Columns are mapped by strings: `"a"` is a column, `"{a}. {b}"` joins several. A list in a column is joined with blank lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Final, Literal

import orjson

from engine.errors import Problem, closest

Role = Literal["system", "user", "assistant"]
PARTS: Final = ("instruction", "input", "response", "system", "label", "id", "messages")
CLASSES: Final = 20  # a label column with more different values holds free text
ALPACA_INPUT: Final = "### Input:\n"

# Names that public instruction data sets use, most telling first.
_USUAL: Final[dict[str, tuple[str, ...]]] = {
    "messages": ("messages", "conversations", "conversation"),
    "instruction": ("instruction", "question", "prompt", "query", "problem"),
    "input": ("input", "context", "contexts", "passage"),
    "response": ("response", "output", "answer", "completion", "target", "long_answer"),
    "system": ("system", "system_prompt"),
    "label": ("label", "final_decision"),
    "id": ("id", "pubid", "uid"),
}
_ROLES: Final[dict[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}


@dataclass(frozen=True)
class Row:
    """One row as it stands in a file: `where` is file:line, or file and key."""

    id: str
    values: Mapping[str, object]
    where: str


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True)
class Example:
    """What the model is shown. `input_text` ends the last user message and is the only part that may be cut; it may be empty."""

    id: str
    messages: tuple[Message, ...]
    input_text: str
    label: str | None
    where: str

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


def columns_named(mapping: str, columns: Iterable[str]) -> tuple[str, ...]:
    """The columns that a mapping string uses: itself, or those in its braces."""
    if mapping in columns or "{" not in mapping:
        return (mapping,)
    try:
        return tuple(name for _, name, _, _ in Formatter().parse(mapping) if name is not None)
    except ValueError as error:
        raise Problem(
            f"The column mapping {mapping!r} is not understood", f"{error}.", 'Write "{a}. {b}".', code="data"
        ) from error


def check_columns(mappings: Mapping[str, str], columns: Iterable[str], source: str) -> None:
    """See that all mapped columns exist.

    Raises:
        Problem: an unknown part, or a column that is not there, with the columns that are and the closest.
    """
    there = list(columns)
    for part, mapping in mappings.items():
        if part not in PARTS:
            raise Problem(
                f"data.columns has no part {part}{closest(part, PARTS)}",
                f"The parts are {', '.join(PARTS)}.",
                code="data",
            )
        for name in columns_named(mapping, there):
            if name not in there:
                raise Problem(
                    f"{source} has no column {name}{closest(name, there)}",
                    f"data.columns.{part} = {mapping!r} needs it; the columns are {', '.join(there)}.",
                    code="data",
                )


def guess_columns(columns: Iterable[str], source: str = "The data") -> dict[str, str]:
    """A mapping guessed from the columns' names.

    Raises:
        Problem: nothing looks like a question and its response, or like messages.
    """
    there = {name.lower(): name for name in columns}
    found = {part: next((there[name] for name in names if name in there), "") for part, names in _USUAL.items()}
    if found["messages"]:
        return {part: found[part] for part in ("messages", "label", "id") if found[part]}
    if not found["instruction"] and found["input"]:  # a lone input is the question
        found["instruction"], found["input"] = found["input"], ""
    if found["instruction"] and found["response"]:
        return {part: name for part, name in found.items() if name}
    raise Problem(
        f"{source} has no columns that look like a question and its response",
        f"The columns are {', '.join(there.values()) or 'none'}.",
        'Say which they are: columns = { instruction = "...", response = "..." }',
        code="data",
    )


def map_row(row: Row, mappings: Mapping[str, str], *, input_heading: str = "") -> Example:
    """The example that a row is. `input_heading` goes before an input that is not empty (the alpaca template wants one).

    Raises:
        Problem: a messages column that holds no conversation.
    """
    values = row.values
    identity = _text(mappings["id"], values).strip() if "id" in mappings else ""
    label = _text(mappings["label"], values).strip() if "label" in mappings else ""
    if "messages" in mappings:
        messages = _conversation(values.get(mappings["messages"]), row.where)
        return Example(identity or row.id, messages, "", label or None, row.where)
    given = _text(mappings["input"], values).strip() if "input" in mappings else ""
    question = _text(mappings["instruction"], values).strip() if "instruction" in mappings else ""
    if given and question:
        question = f"{question}\n\n{input_heading}{given}"
    elif given:
        question = given
    system = _text(mappings["system"], values).strip() if "system" in mappings else ""
    response = _text(mappings["response"], values).strip() if "response" in mappings else ""
    parts = (("system", system), ("user", question), ("assistant", response))
    kept = tuple(Message(role, text) for role, text in parts if text or role != "system")
    return Example(identity or row.id, kept, given, label or None, row.where)


def value_text(value: object) -> str:
    """A cell as text: lists of texts joined with blank lines, everything else that is not text as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return "\n\n".join(value)
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _text(mapping: str, values: Mapping[str, object]) -> str:
    if mapping in values or "{" not in mapping:
        return value_text(values.get(mapping))
    pieces: list[str] = []
    for literal, name, _, _ in Formatter().parse(mapping):
        pieces.append(literal)
        if name is not None:
            pieces.append(value_text(values.get(name)))
    return "".join(pieces)


def _conversation(value: object, where: str) -> tuple[Message, ...]:
    """Messages as {role, content} or as {from, value}."""
    if not isinstance(value, list) or not value:
        raise Problem(f"{where}: there is no list of messages", f"Found {type(value).__name__}.", code="data")
    messages: list[Message] = []
    for turn in value:
        if not isinstance(turn, dict):
            raise Problem(f"{where}: a message is not an object", f"Found {turn!r:.60}.", code="data")
        name = str(turn.get("role", turn.get("from", "")))
        if name not in _ROLES:
            known = ", ".join(_ROLES)
            raise Problem(f"{where}: unknown role {name!r}{closest(name, _ROLES)}", f"Known are {known}.", code="data")
        content = turn.get("content", turn.get("value"))
        if isinstance(content, list):  # parts, of which the texts are ours
            content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
        messages.append(Message(_ROLES[name], value_text(content)))
    return tuple(messages)
