"""What is typed after `/`: a value that says yes or no to a run.

`lora state=running,paused model~qwen` - plain words are looked for in the name; `state=` takes states, `model`, `method` and `note` take
`=` (is) or `~` (contains). All parts must hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from engine.errors import closest
from engine.ledger.states import State

FIELDS: Final = ("name", "state", "model", "method", "note")


@dataclass(frozen=True)
class Part:
    """`field` is one of `words`; with `exact` it has to be one of them, else to contain one. Lower case."""

    field: str
    words: tuple[str, ...]
    exact: bool

    def holds(self, facts: Mapping[str, str]) -> bool:
        """Whether the run with these facts passes."""
        there = facts[self.field].casefold()
        return any(there == word if self.exact else word in there for word in self.words)


@dataclass(frozen=True)
class Filter:
    """Parts that must all hold; `mistake` says what in the text could not be understood."""

    text: str = ""
    parts: tuple[Part, ...] = ()
    mistake: str = ""

    def holds(self, facts: Mapping[str, str]) -> bool:
        """Whether a run passes; `facts` has a text for each of `FIELDS`."""
        return all(part.holds(facts) for part in self.parts)


def parse(text: str) -> Filter:
    """The filter that `text` means. Nothing is refused: what is not understood is left out and said in `mistake`."""
    parts: list[Part] = []
    mistake = ""
    for word in text.casefold().split():
        place = next((place for place, letter in enumerate(word) if letter in "=~"), -1)
        if place < 0:
            parts.append(Part("name", (word,), exact=False))
            continue
        field, values = word[:place], tuple(value for value in word[place + 1 :].split(",") if value)
        if field not in FIELDS:
            mistake = f"there is no {field!r}{closest(field, FIELDS)}: {', '.join(FIELDS)}"
        elif field == "state" and (wrong := [value for value in values if not _begins_a_state(value)]):
            mistake = f"there is no state {wrong[0]!r}{closest(wrong[0], list(State))}"
        elif values:
            parts.append(Part(field, values, exact=word[place] == "=" and field != "state"))
    return Filter(text, tuple(parts), mistake)


def _begins_a_state(word: str) -> bool:
    return any(state.startswith(word) for state in State)
