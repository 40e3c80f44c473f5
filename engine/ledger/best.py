"""Which value of a metric is its best: the lowest, but where its key ends in a word for what is better high."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

HIGHER: Final = frozenset(
    {
        *("accuracy", "accuracies", "precision", "recall", "f1", "auc", "exact_match", "win_rate", "score", "correct"),
        *("bleu", "chrf", "meteor", "rouge", "rouge1", "rouge2", "rougel", "rougelsum"),
        *("reward", "rewards", "reward_margin", "margin", "margins"),
        *("mfu", "tflops", "tokens_per_second", "samples_per_second", "steps_per_second"),
    }
)
"""Words in which the keys of metrics end whose best value is the highest; other programs' are among them."""


@cache
def higher_is_better(key: str) -> bool:
    """Whether a metric's best value is its highest: `validation/accuracy`, `eval_f1`, `rewards/margins`, `train/tokens_per_second`."""
    words = re.split(r"[/_. -]", key.lower())
    return any("_".join(words[start:]) in HIGHER for start in range(len(words)))
