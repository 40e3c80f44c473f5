"""What is learned from: a whole conversation, or one side of a pair, with the responses in it that are supervised."""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.data.messages import Message, Object


@dataclass(frozen=True)
class Side:
    """A conversation that ends with a response, and the places of the responses in it that are supervised."""

    messages: tuple[Message, ...]
    turns: tuple[int, ...]
    tools: tuple[Object, ...]

    def through(self, turns: tuple[int, ...]) -> Side:
        """The conversation up to the last of these responses."""
        return Side(self.messages[: turns[-1] + 1], turns, self.tools)


def side_from(messages: tuple[Message, ...], first: int, tools: tuple[Object, ...]) -> Side:
    """All responses from message `first` on, of which there is at least one."""
    turns = tuple(place for place, message in enumerate(messages) if message.role == "assistant" and place >= first)
    return Side(messages[: turns[-1] + 1], turns, tools)


def asking(side: Side, content: str) -> Side:
    """The conversation with another last user message."""
    last = max(place for place, message in enumerate(side.messages) if message.role == "user")
    changed = replace(side.messages[last], content=content)
    return replace(side, messages=(*side.messages[:last], changed, *side.messages[last + 1 :]))
