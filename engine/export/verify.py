"""Whether a merged model says what its adapter says: logits and greedy text of a few of the run's own prompts.

Three models are asked in turn, each in its own type: the base alone, the base with the adapter, and the merged model as it was read back from its
files. The base shows how much was learned; a difference that is no smaller would mean that the merge has lost it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

PROMPTS: Final = 10
ANSWER: Final = 32  # tokens of greedy text
ALLOWED: Final = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""How far logits may differ, as a share of their own spread: root mean square of the difference over that of the adapter's logits.

A weight is rounded once in the merge, by up to 2^-24, 2^-11 or 2^-9 of itself, and every activation of both models again; measured on tiny
Llamas the share is 1e-6 in float32 and about 1e-2 in bfloat16.
"""
FLOOR: Final = 1e-6  # below it a difference is the order of additions


@dataclass(frozen=True)
class Said:
    """What a model says to a prompt: logits of every place of prompt and answer [tokens, vocabulary] float32, and the answer."""

    logits: Tensor
    answer: tuple[int, ...]


@dataclass(frozen=True)
class Check:
    """One comparison: what was found, what is allowed, and a sentence."""

    name: str
    ok: bool
    found: float
    allowed: float
    told: str


def ask(
    model: PreTrainedModel | PeftModel,
    prompts: Sequence[tuple[int, ...]],
    answers: Sequence[tuple[int, ...]] | None,
    end_ids: Sequence[int],
    each: Callable[[], None],
) -> list[Said]:
    """What the model says to each prompt. With `answers` it is asked along them, and its own greedy choice at each place is its answer."""
    asked: Any = model
    said = []
    for number, prompt in enumerate(prompts):
        answer = answers[number] if answers else _greedy(asked, prompt, end_ids)
        with torch.no_grad():
            logits = asked(input_ids=torch.tensor([prompt + answer]), use_cache=False).logits[0].float()
        chosen = logits[len(prompt) - 1 : len(prompt) + len(answer) - 1].argmax(-1)
        said.append(Said(logits, tuple(chosen.tolist())))
        each()
    return said


def _greedy(model: Any, prompt: tuple[int, ...], end_ids: Sequence[int]) -> tuple[int, ...]:
    ids = torch.tensor([prompt])
    with torch.no_grad():
        written = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=ANSWER,
            do_sample=False,
            eos_token_id=list(end_ids) or None,
            pad_token_id=(list(end_ids) or [0])[0],
        )
    return tuple(written[0, len(prompt) :].tolist())


def compare(base: Sequence[Said], adapter: Sequence[Said], merged: Sequence[Said], dtype: torch.dtype) -> list[Check]:
    """The checks of a merge in `dtype`."""
    allowed = ALLOWED[dtype]
    spread = _size([said.logits - said.logits.mean(-1, keepdim=True) for said in adapter])
    pairs = list(zip(adapter, merged, strict=True))
    difference = _size([one.logits - other.logits for one, other in pairs]) / spread
    learned = _size([one.logits - other.logits for one, other in zip(adapter, base, strict=True)]) / spread
    same = sum(one.answer == other.answer for one, other in pairs)
    worst = max(_nearly(one, other) for one, other in pairs) / spread
    return [
        Check(
            "logits",
            difference <= allowed,
            difference,
            allowed,
            f"Logits differ by {difference:.2g} of their spread; {allowed:.2g} is allowed in {_name(dtype)}.",
        ),
        Check(
            "tune",
            difference < learned or difference <= FLOOR,
            difference,
            learned,
            f"The tune moves logits by {learned:.2g} of their spread, the merge by {difference:.2g}.",
        ),
        Check(
            "text",
            worst <= 2 * allowed,
            worst,
            2 * allowed,
            f"{same} of {len(pairs)} greedy texts are the same"
            + (f"; where they part the two tokens were {worst:.2g} of the spread apart." if same < len(pairs) else "."),
        ),
    ]


def _nearly(one: Said, other: Said) -> float:
    """How far the adapter's model had the other's choice behind its own, at the place where it had it farthest; 0 where all are the same."""
    count = len(one.answer)
    if not count:
        return 0.0
    places = one.logits[len(one.logits) - count - 1 : -1]
    chosen = places.gather(1, torch.tensor(other.answer)[:, None])[:, 0]
    return float((places.max(-1).values - chosen).max())


def _size(parts: Sequence[Tensor]) -> float:
    """Root mean square over all of them; infinite where one is not finite."""
    every = torch.cat([part.flatten() for part in parts]).double()
    return float(every.square().mean().sqrt()) if bool(every.isfinite().all()) else float("inf")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
