"""Conversations as data sets write them, made one: roles, contents, reasoning, tools and the calls to them.

Read are the forms of OpenAI (`role`, `content`, `tool_calls`), of ShareGPT (`from`, `value`) and older ones with `function_call`; a call's
arguments and whole tool lists may be JSON in a string, as tables keep them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

import orjson

from engine.errors import Problem, closest

Role = Literal["system", "user", "assistant", "tool"]
ROLES: Final[dict[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
    "ipython": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "function_response": "tool",
    "function_call": "assistant",
    "tool_call": "assistant",
}
_CALLING: Final = ("function_call", "tool_call")  # roles whose content is the call itself
_REASONING: Final = ("reasoning_content", "thinking", "reasoning")  # names of it, most usual first

Object = Mapping[str, object]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    `calls` are an assistant's calls in OpenAI's form, arguments as objects; `name` and `call_id` say whose answer a tool's message is.
    """

    role: str
    content: str
    calls: tuple[Object, ...] = ()
    reasoning: str = ""
    name: str = ""
    call_id: str = ""

    @property
    def empty(self) -> bool:
        """Nothing is said and nothing called."""
        return not self.calls and not self.content.strip()

    def seen(self) -> dict[str, object]:
        """The message as a chat template sees it: reasoning under both names that templates read, and no key for what is not there."""
        keys: dict[str, object] = {"role": self.role, "content": self.content}
        if self.reasoning:
            keys |= {"reasoning_content": self.reasoning, "thinking": self.reasoning}
        if self.calls:
            keys["tool_calls"] = list(self.calls)
        if self.name:
            keys["name"] = self.name
        if self.call_id:
            keys["tool_call_id"] = self.call_id
        return keys


def value_text(value: object) -> str:
    """A cell as text: lists of texts joined with blank lines, everything else that is not text as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return "\n\n".join(value)
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def conversation(value: object, where: str) -> tuple[Message, ...]:
    """The messages of a row.

    Raises:
        Problem: it is no list of messages, or one of them has no known role or a call that cannot be read (code `data`).
    """
    turns = parsed(value)
    if not isinstance(turns, list) or not turns:
        raise Problem(f"{where}: there is no list of messages", f"Found {type(value).__name__}.", code="data")
    return tuple(_message(turn, where) for turn in turns)


def tools_of(value: object, where: str) -> tuple[Object, ...]:
    """The tools of a row: JSON schemas in a list, or in a string that holds one; a function's bare schema is wrapped.

    Raises:
        Problem: it is something else (code `data`).
    """
    listed = parsed(value)
    if listed in (None, "", []):
        return ()
    if isinstance(listed, list):
        tools = [parsed(tool) for tool in listed]
        if all(isinstance(tool, dict) for tool in tools):
            return tuple(_wrapped(tool) for tool in tools if isinstance(tool, dict))
    raise Problem(
        f"{where}: there is no list of tools",
        f"Found {value!r:.60}.",
        "Wanted is a list of JSON schemas, or a string that holds one.",
        code="data",
    )


def parsed(value: object) -> object:
    """A value whose JSON a table kept as text; other text stays itself."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def _message(turn: object, where: str) -> Message:
    if not isinstance(turn, dict):
        raise Problem(f"{where}: a message is not an object", f"Found {turn!r:.60}.", code="data")
    role = str(turn.get("role", turn.get("from", "")))
    if role not in ROLES:
        known = ", ".join(ROLES)
        raise Problem(f"{where}: unknown role {role!r}{closest(role, ROLES)}", f"Known are {known}.", code="data")
    content = turn.get("content", turn.get("value"))
    if isinstance(content, list):  # parts, of which the texts are ours
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    given = parsed(turn.get("tool_calls")) or turn.get("function_call") or ()
    if role in _CALLING:
        given, content = content, ""
    reasoning = next((turn[name] for name in _REASONING if turn.get(name)), "")
    return Message(
        ROLES[role],
        value_text(content),
        _calls(given, where) if given else (),
        value_text(reasoning),
        value_text(turn.get("name")) if ROLES[role] == "tool" else "",
        value_text(turn.get("tool_call_id")),
    )


def _calls(given: object, where: str) -> tuple[Object, ...]:
    value = parsed(given)
    listed = value if isinstance(value, list) else [value]
    return tuple(_call(parsed(call), where) for call in listed)


def _call(call: object, where: str) -> Object:
    """A call in OpenAI's form; `{name, arguments}` alone is one, too."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Problem(
            f"{where}: a tool call cannot be read",
            f"Found {call!r:.60}.",
            'Wanted is {"function": {"name": ..., "arguments": {...}}}.',
            code="data",
        )
    arguments = parsed(function.get("arguments", function.get("parameters")))
    named = {"name": function["name"], "arguments": {} if arguments in (None, "") else arguments}
    identity = {"id": call["id"]} if call.get("id") else {}
    return {**identity, "type": "function", "function": named}


def _wrapped(tool: Object) -> Object:
    return tool if "function" in tool or "name" not in tool else {"type": "function", "function": tool}


def renamed(message: Message) -> Iterator[Message]:
    """The message with each of its calls, one at a time, to another function: what does not change then was not written."""
    for place, call in enumerate(message.calls):
        function = call["function"]
        assert isinstance(function, dict)
        other = {**call, "function": {**function, "name": f"{function['name']}Zq7"}}
        yield replace(message, calls=(*message.calls[:place], other, *message.calls[place + 1 :]))
