"""What `/` may ask of the rows of a comparison, and of the questions behind one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, get_args

from engine.evaluate.behind import Answer, Behind, Outcome
from engine.evaluate.compare import ComparisonRow
from engine.evaluate.difference import Verdict
from engine.filtering import Field, Value

ROW_FIELDS: Final = (
    Field("name", "text", "suite, metric or run"),
    Field("suite", "text", "the suite"),
    Field("metric", "text", "the metric"),
    Field("run", "text", "the run"),
    Field("against", "text", "what it is read against"),
    Field("verdict", "choice", "what is to be made of it", get_args(Verdict)),
    Field("difference", "number", "tuned less base, in points"),
    Field("p", "number", "how likely it is by chance"),
    Field("n", "number", "questions"),
    Field("won", "number", "answers that only the tuned model has right"),
    Field("lost", "number", "answers that only the base has right"),
)
_ROW: Final[Mapping[str, Callable[[ComparisonRow], Value]]] = {
    "name": lambda row: f"{row.title} {row.run}",
    "suite": lambda row: row.suite,
    "metric": lambda row: row.metric,
    "run": lambda row: row.run,
    "against": lambda row: row.against,
    "verdict": lambda row: row.verdict,
    "difference": lambda row: 100 * row.difference,
    "p": lambda row: row.p,
    "n": lambda row: row.n,
    "won": lambda row: row.won,
    "lost": lambda row: row.lost,
}
WORDS: Final = ("suite", "metric", "run", "against")

ITEM_FIELDS: Final = (
    Field("text", "text", "the question or an answer"),
    Field("outcome", "choice", "what became of it", get_args(Outcome)),
    Field("question", "text", "the question"),
    Field("base", "text", "what the base answered"),
    Field("tuned", "text", "what the tuned model answered"),
    Field("gold", "text", "the right answer"),
    Field("item", "text", "its id in the suite"),
    Field("variant", "number", "0 for the question itself, else which paraphrase"),
)
_ITEM: Final[Mapping[str, Callable[[Behind], Value]]] = {
    "text": lambda one: f"{one.prompt}\n{one.base.text}\n{one.tuned.text}",
    "outcome": lambda one: one.outcome,
    "question": lambda one: one.prompt,
    "base": lambda one: _said(one.base),
    "tuned": lambda one: _said(one.tuned),
    "gold": lambda one: one.gold,
    "item": lambda one: one.item,
    "variant": lambda one: one.variant,
}


def row_fact(row: ComparisonRow) -> Callable[[str], Value]:
    """What a row has for the fields."""
    return lambda name: _ROW[name](row)


def occurring(rows: Sequence[ComparisonRow]) -> dict[str, list[str]]:
    """The words that stand in the columns, in the order of the rows."""
    return {name: list(dict.fromkeys(str(_ROW[name](row)) for row in rows)) for name in WORDS}


def item_fact(one: Behind) -> Callable[[str], Value]:
    """What a question has for the fields."""
    return lambda name: _ITEM[name](one)


def _said(answer: Answer) -> tuple[str, ...]:
    """What was read from it and all of it: either may be asked for."""
    return answer.read, answer.text
