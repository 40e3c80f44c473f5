"""How likely given answers are to a model: sums of log-probabilities after a prompt. Needs torch; runs in the job's
process only.

A prompt is read once and its keys and values are kept for all its answers, which are short; models that keep another
kind of state (linear attention) read prompt and answer together, once an answer.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Final

import torch
from peft import PeftModel
from transformers import Cache, PreTrainedModel

Model = PreTrainedModel | PeftModel
Ids = tuple[int, ...]
Wanted = Sequence[tuple[Ids, Ids]]
LOGITS: Final = 1 << 28  # rows x positions x vocabulary of logits held at once: 1 GiB in float32


def left_padded(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    """ids, mask and positions [rows, longest]; positions count true tokens only."""
    longest = max(map(len, rows))
    ids = torch.tensor([[pad] * (longest - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask, (mask.cumsum(1) - 1).clamp(min=0)


@torch.inference_mode()
def log_likelihoods(model: Model, wanted: Wanted, pad: int) -> list[float]:
    """For each (prompt, answer): the sum of the answer's log-probabilities after the prompt, in nats. Answers have at
    least a token.
    """
    prompts = list(dict.fromkeys(prompt for prompt, _ in wanted))
    ids, mask, positions = left_padded(prompts, pad, model.device)
    read = model(input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=1, use_cache=True)
    if not _can_select(read.past_key_values):
        return read_whole(model, wanted, pad, rows=len(prompts))
    first = torch.log_softmax(read.logits[:, -1].float(), dim=-1)
    place = {prompt: number for number, prompt in enumerate(prompts)}
    found = {(prompt, answer): float(first[place[prompt], answer[0]]) for prompt, answer in wanted}
    longer = sorted((pair for pair in found if len(pair[1]) > 1), key=lambda pair: -len(pair[1]))
    while longer:
        most = max(1, min(len(prompts), LOGITS // (len(longer[0][1]) * first.shape[1])))
        chunk, longer = longer[:most], longer[most:]
        rows = torch.tensor([place[prompt] for prompt, _ in chunk], device=model.device)
        rest = _go_on(model, chunk, _selected(read.past_key_values, rows), mask[rows], pad)
        for pair, more in zip(chunk, rest, strict=True):
            found[pair] += more
    return [found[pair] for pair in wanted]


def _go_on(model: Model, chunk: Wanted, cache: Cache, mask: torch.Tensor, pad: int) -> list[float]:
    """Log-probabilities of the answers behind their first token; a row of `cache` and `mask` belongs to each."""
    deepest = max(len(answer) for _, answer in chunk) - 1
    fed = [answer[:-1] for _, answer in chunk]
    ids = torch.tensor([[*row, *[pad] * (deepest - len(row))] for row in fed], device=mask.device)
    more = torch.tensor([[1] * len(row) + [0] * (deepest - len(row)) for row in fed], device=mask.device)
    positions = mask.sum(1, keepdim=True) + torch.arange(deepest, device=mask.device)
    logits = model(
        input_ids=ids,
        attention_mask=torch.cat([mask, more], dim=1),
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
    ).logits
    return [_sum_of(logits[row, : len(answer) - 1], answer[1:]) for row, (_, answer) in enumerate(chunk)]


def read_whole(model: Model, wanted: Wanted, pad: int, *, rows: int) -> list[float]:
    """As `log_likelihoods`, with prompt and answer read together, `rows` at a time."""
    found: list[float] = []
    for start in range(0, len(wanted), rows):
        chunk = wanted[start : start + rows]
        ids, mask, positions = left_padded([(*prompt, *answer[:-1]) for prompt, answer in chunk], pad, model.device)
        deepest = max(len(answer) for _, answer in chunk)
        logits = model(
            input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=deepest, use_cache=False
        ).logits
        found += [_sum_of(logits[row, -len(answer) :], answer) for row, (_, answer) in enumerate(chunk)]
    return found


def _sum_of(logits: torch.Tensor, answer: Ids) -> float:
    """Of the answer's log-probabilities, one position of `logits` [tokens, vocabulary] for each of its tokens."""
    chosen = torch.tensor(answer, device=logits.device)
    return float(torch.log_softmax(logits.float(), dim=-1).gather(1, chosen[:, None]).sum())


def _can_select(cache: object) -> bool:
    return isinstance(cache, Cache) and all(hasattr(layer, "batch_select_indices") for layer in cache.layers)


def _selected(cache: Cache, rows: torch.Tensor) -> Cache:
    """These rows of the cache; the cache itself stays as it is, because selecting makes new tensors."""
    taken = copy.copy(cache)
    taken.layers = [copy.copy(layer) for layer in cache.layers]
    taken.batch_select_indices(rows)
    return taken
