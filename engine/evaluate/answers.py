"""From what a model said to an item of the ledger: what was read out of it, and whether it is right.

Everything that the figures need stands in the item itself (trap, twin, likelihoods in `detail`), so that a copied
ledger can be compared where the suite file is not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from engine.evaluate.scorers import declines, extract_choice, extract_text, matched_gold, rouge_l
from engine.evaluate.suites import Suite, SuiteItem
from engine.ledger.evaluations import Item

_THINKING: Final = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Said:
    """What a model said to one prompt.

    `choices` are log-probabilities (nats) that the answer begins with each choice, small or capital; `gold_nll` the
    preferred answer's negative log-likelihood in nats per token; `tokens` counts generated tokens, without padding;
    `too_long` the tokens of a prompt that does not fit the model's window and was not asked.
    """

    text: str
    tokens: int = 0
    milliseconds: float = 0.0
    choices: Mapping[str, float] = field(default_factory=dict)
    gold_nll: float | None = None
    too_long: int = 0


def refusals(suite: Suite) -> dict[str, tuple[str, ...]]:
    """By item: the answers that say "there is no such thing" - a trap's own right answers, for the trap and for its
    twin.
    """
    found: dict[str, tuple[str, ...]] = {}
    for item in suite.items:
        if item.trap and item.answer:
            found[item.id] = item.answer
            found[item.twin or ""] = item.answer
    return found


def read_answer(item: SuiteItem, variant: int, said: Said, refusal: tuple[str, ...] = ()) -> Item:
    """The ledger's row for one answer.

    With choices, the likeliest one counts as the answer, and the written text is read too; without, the text is. A trap
    is right when it is declined, its twin when it is not: by the choice, by an accepted refusal, or by the words of the
    answer.
    """
    text = _THINKING.sub("", said.text).strip()
    chosen = max(said.choices, key=lambda choice: said.choices[choice]) if said.choices else None
    extracted = extract_choice(text, item.choices) if item.choices else extract_text(text, item.answer)
    detail: dict[str, object] = {"tokens": said.tokens, "milliseconds": round(said.milliseconds, 2)}
    if said.too_long:
        detail["too_long"] = said.too_long
    if item.choices:
        detail |= {"choices": list(item.choices), "chosen": chosen, "likelihood": dict(said.choices)}
        if item.answer:
            detail["written"] = float(extracted in item.answer)
    if said.gold_nll is not None:
        detail["nll"] = said.gold_nll
    if item.answer and not item.choices and item.trap is None:
        detail["rouge_l"] = max(rouge_l(text, gold) for gold in item.answer)
    correct = _correct(item, text, chosen)
    if item.trap is not None:
        declined = _declined(text, chosen, refusal)
        detail |= {"trap": item.trap, "twin": item.twin, "declined": declined}
        correct = float(declined == item.trap)
    gold = item.answer[0] if item.answer else None
    return Item(item.id, variant, item.prompts[variant], said.text, extracted, gold, correct, detail)


def _correct(item: SuiteItem, text: str, chosen: str | None) -> float | None:
    if not item.answer:
        return None
    return float(chosen in item.answer if item.choices else matched_gold(text, item.answer) is not None)


def _declined(text: str, chosen: str | None, refusal: tuple[str, ...]) -> bool:
    if chosen is not None and refusal:
        return chosen in refusal
    return declines(text) or (bool(refusal) and matched_gold(text, refusal) is not None)
