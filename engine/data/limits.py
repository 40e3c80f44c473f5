"""How long an example may be where the profile leaves that to the data."""

from __future__ import annotations

from typing import Final

import numpy as np

from engine.data.mapped import open_mapped
from engine.data.sampler import sampler
from engine.data.tokenizer import ModelTokenizer
from engine.profile import Profile

ROWS: Final = 20_000  # evenly spaced rows whose lengths decide
PERCENTILE: Final = 99
SHORTEST: Final = 16  # what a profile allows at least
PIECE: Final = (
    2048  # tokens of a document's piece at most: nothing is lost by cutting, and longer ones only cost memory
)


def auto_max_tokens(settings: Profile, tokenizer: ModelTokenizer) -> int:
    """The 99th percentile of the samples' lengths in tokens, over at most 20,000 evenly spaced rows, within the model's window.

    Of preferences both responses count; documents are cut into pieces of at most 2,048 tokens.

    Raises:
        Problem: missing data or columns, a broken row.
    """
    objective = settings.training.objective
    sources = [open_mapped(data, settings.template, objective) for data in settings.data]
    whole = sampler(tokenizer, settings.template, settings.training)
    total = sum(map(len, sources))
    lengths: list[int] = []
    for source in sources:
        count = min(len(source), max(1, ROWS * len(source) // total))
        for number in np.linspace(0, len(source) - 1, count).astype(int):
            lengths += [len(rendered.ids) for rendered in whole.samples(source.example(int(number)))]
    most = int(np.percentile(lengths, PERCENTILE, method="higher"))
    if objective == "pretrain":
        most = min(most, PIECE)
    return max(SHORTEST, min(most, tokenizer.max_length or most))
