"""Asking a model: greedy answers in batches, with the likelihoods of the choices and of the right answer. Needs torch;
runs in the job's process only.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from transformers import GenerationConfig

from engine.data.examples import Message
from engine.data.render import Renderer
from engine.errors import Problem
from engine.evaluate.answers import Said
from engine.evaluate.likelihood import Model, left_padded, log_likelihoods
from engine.evaluate.suites import Suite, SuiteItem

ROWS: Final = 16  # in a batch, at most; the same batches for every model, because bfloat16 results vary with them
BATCH_TOKENS: Final = 16_384  # rows x longest prompt, at most


@dataclass(frozen=True)
class Prompt:
    """One question as tokens, with the tokens of its choices (each as it stands and with a capital) and of its
    preferred answer.
    """

    item: SuiteItem
    variant: int
    ids: tuple[int, ...]
    choices: tuple[tuple[tuple[int, ...], ...], ...]
    gold: tuple[int, ...]


def prompts(suite: Suite, renderer: Renderer) -> list[Prompt]:
    """Every item and paraphrase as the model will see it, longest first, so that batches pad little and the largest
    comes first.
    """
    found: list[Prompt] = []
    for item in suite.items:
        choices = tuple(
            tuple(tuple(renderer.tokenizer.encode(form)) for form in _forms(choice)) for choice in item.choices
        )
        gold = tuple(renderer.tokenizer.encode(item.answer[0])) if item.answer else ()
        for variant, text in enumerate(item.prompts):
            messages = [Message("user", text)]
            if item.system:
                messages.insert(0, Message("system", item.system))
            found.append(Prompt(item, variant, tuple(renderer.prompt(messages)), choices, gold))
    return sorted(found, key=lambda prompt: (-len(prompt.ids), prompt.item.id, prompt.variant))


def _forms(choice: str) -> list[str]:
    """A choice as it stands and as a sentence would open with it."""
    return list(dict.fromkeys([choice, choice[:1].upper() + choice[1:]]))


def batches(asked: Sequence[Prompt]) -> list[list[Prompt]]:
    """The prompts in batches of at most `ROWS` rows and `BATCH_TOKENS` padded tokens, in order."""
    found: list[list[Prompt]] = []
    for prompt in asked:
        batch = found[-1] if found else []
        if not batch or len(batch) == ROWS or (len(batch) + 1) * len(batch[0].ids) > BATCH_TOKENS:
            found.append([prompt])
        else:
            batch.append(prompt)
    return found


class Asker:
    """Puts batches of prompts to one loaded model."""

    def __init__(self, model: Model, renderer: Renderer, max_new_tokens: int) -> None:
        self.model = model
        self.renderer = renderer
        self.max_new_tokens = max_new_tokens
        tokenizer = renderer.tokenizer
        self.window = tokenizer.max_length or 1 << 30
        self._settings = GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=False,
            max_new_tokens=max_new_tokens,
            eos_token_id=list(renderer.stop_ids) or None,
            pad_token_id=tokenizer.pad_id,
        )
        # What a call leaves open is filled in from the model's own settings, which may penalise repetition.
        model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]

    @torch.inference_mode()
    def ask(self, batch: Sequence[Prompt]) -> list[Said]:
        """What the model says to each prompt of a batch.

        Raises:
            Problem: the batch does not fit the GPU (code `OOM`).
        """
        fitting = [prompt for prompt in batch if len(prompt.ids) + self.max_new_tokens <= self.window]
        try:
            said = dict(zip([id(prompt) for prompt in fitting], self._ask(fitting), strict=True)) if fitting else {}
        except torch.OutOfMemoryError as error:
            raise Problem(
                f"The GPU has not enough memory to evaluate {len(batch)} prompts of {len(batch[0].ids):,} tokens",
                "Another process may hold some of it.",
                "Free the GPU and evaluate again: it goes on where it was.",
                code="OOM",
            ) from error
        return [said.get(id(prompt), Said("", too_long=len(prompt.ids))) for prompt in batch]

    def _ask(self, batch: Sequence[Prompt]) -> list[Said]:
        started = time.perf_counter()
        texts = self._generate([prompt.ids for prompt in batch])
        milliseconds = 1000 * (time.perf_counter() - started) / len(batch)
        wanted = [(prompt.ids, form) for prompt in batch for choice in prompt.choices for form in choice]
        wanted += [(prompt.ids, prompt.gold) for prompt in batch if prompt.gold]
        found = dict(zip(wanted, log_likelihoods(self.model, wanted, self.renderer.tokenizer.pad_id), strict=True))
        said: list[Said] = []
        for prompt, (text, tokens) in zip(batch, texts, strict=True):
            forms = [[found[prompt.ids, form] for form in choice] for choice in prompt.choices]
            choices = dict(zip(prompt.item.choices, map(_log_sum_exp, forms), strict=True))
            nll = -found[prompt.ids, prompt.gold] / len(prompt.gold) if prompt.gold else None
            said.append(Said(text, tokens, milliseconds, choices, nll))
        return said

    def _generate(self, rows: Sequence[Sequence[int]]) -> list[tuple[str, int]]:
        """Greedy answers and the number of their tokens, the end token not counted."""
        ids, mask, _ = left_padded(rows, self.renderer.tokenizer.pad_id, self.model.device)
        produced = self.model.generate(  # type: ignore[operator]
            input_ids=ids, attention_mask=mask, generation_config=self._settings
        )[:, ids.shape[1] :].tolist()
        answers: list[tuple[str, int]] = []
        for row in produced:
            end = next((place for place, token in enumerate(row) if token in self.renderer.stop_ids), len(row))
            answers.append((self.renderer.tokenizer.tokenizer.decode(row[:end], skip_special_tokens=True), end))
        return answers


def _log_sum_exp(values: Sequence[float]) -> float:
    """log of the summed probabilities, from their logarithms."""
    most = max(values)
    return most + math.log(math.fsum(math.exp(value - most) for value in values))
