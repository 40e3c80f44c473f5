"""Which columns of a source hold what: given in the profile, or guessed from their names; and what each objective needs.

Columns are mapped by strings: `"a"` is a column, `"{a}. {b}"` joins several.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from string import Formatter
from typing import Final, Literal

from engine.errors import Problem, closest

Objective = Literal["sft", "pretrain", "dpo", "orpo"]
PREFERENCE: Final = ("dpo", "orpo")
PARTS: Final = (
    "instruction",
    "input",
    "response",
    "system",
    "label",
    "id",
    "messages",
    "tools",
    "text",
    "chosen",
    "rejected",
)

# Names that public data sets use, most telling first.
_USUAL: Final[dict[str, tuple[str, ...]]] = {
    "messages": ("messages", "conversations", "conversation"),
    "tools": ("tools", "functions"),
    "instruction": ("instruction", "question", "prompt", "query", "problem"),
    "input": ("input", "context", "contexts", "passage"),
    "response": ("response", "output", "answer", "completion", "target", "long_answer"),
    "system": ("system", "system_prompt"),
    "label": ("label", "final_decision"),
    "id": ("id", "pubid", "uid"),
    "text": ("text", "content", "document", "body"),
    "chosen": ("chosen", "chosen_response", "response_chosen", "preferred"),
    "rejected": ("rejected", "rejected_response", "response_rejected", "dispreferred"),
}
# What a row is made of under each objective; parts that are no more than there.
_ASKED: Final = ("instruction", "input", "system")
_BESIDE: Final = ("label", "id")
_PREFERENCE_PARTS: Final = ("messages", *_ASKED, "tools", "chosen", "rejected", *_BESIDE)


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


def check_objective(mappings: Mapping[str, str], objective: Objective, source: str) -> None:
    """See that a mapping holds what the objective learns from.

    Raises:
        Problem: a part is not mapped, naming it (code `data`).
    """
    lacking = _lacking(mappings, objective)
    if lacking:
        raise Problem(
            f"training.objective = {objective} needs {' and '.join(lacking)} from {source}",
            f"data.columns maps {', '.join(mappings)}.",
            _say_which(lacking),
            code="data",
        )


def guess_columns(columns: Iterable[str], source: str = "The data", objective: Objective = "sft") -> dict[str, str]:
    """A mapping guessed from the columns' names.

    Raises:
        Problem: nothing looks like what the objective learns from.
    """
    there = {name.lower(): name for name in columns}
    found = {part: next((there[name] for name in names if name in there), "") for part, names in _USUAL.items()}
    if objective == "pretrain":
        kept: tuple[str, ...] = ("text", *_BESIDE)
    elif objective in PREFERENCE:
        kept = _PREFERENCE_PARTS
    elif found["messages"]:
        kept = ("messages", "tools", *_BESIDE)
    else:
        if not found["instruction"] and found["input"]:  # a lone input is the question
            found["instruction"], found["input"] = found["input"], ""
        kept = (*_ASKED, "response", *_BESIDE)
    mappings = {part: found[part] for part in kept if found[part]}
    lacking = _lacking(mappings, objective)
    if lacking:
        wanted = "a question and its response" if objective == "sft" else " and ".join(lacking)
        raise Problem(
            f"{source} has no columns that look like {wanted}",
            f"training.objective = {objective} needs them; the columns are {', '.join(there.values()) or 'none'}.",
            _say_which(lacking),
            code="data",
        )
    return mappings


def likely_objective(columns: Iterable[str]) -> Objective:
    """What data are for, by their columns alone: preferences, questions and responses, or plain text."""
    there = tuple(columns)
    objectives: tuple[Objective, ...] = ("dpo", "sft", "pretrain")
    for objective in objectives:
        try:
            guess_columns(there, objective=objective)
        except Problem:
            continue
        return objective
    return "sft"


def _say_which(parts: Iterable[str]) -> str:
    named = ", ".join(f'{part} = "..."' for part in parts)
    return f"Say which they are: columns = {{ {named} }}"


def _lacking(mappings: Mapping[str, str], objective: Objective) -> list[str]:
    if objective == "pretrain":
        needed: list[str] = ["text"]
    elif objective in PREFERENCE:
        needed = ["chosen", "rejected"]
    elif "messages" in mappings:
        needed = []
    else:
        needed = [*([] if "input" in mappings else ["instruction"]), "response"]
    return [part for part in needed if part not in mappings]
