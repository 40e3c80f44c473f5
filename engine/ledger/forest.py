"""What a random forest owes to each setting: the second look of `importance`, for settings that matter only together or not in one direction.

Forests are grown on four fifths of the runs and asked about the last fifth, five times over; what a setting is worth is how much worse
they do there when its values are shuffled among the runs (Breiman, Machine Learning 45, 2001). Of settings that nearly change together
each is worth little: the others stand in for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.ledger.importance import Study

LEAST: Final = 10  # runs: two to ask about in each fold
MOST: Final = 2000  # runs, drawn from more: others would only take time
FOLDS: Final = 5
TREES: Final = 100
SHUFFLES: Final = 10
AT_ONCE: Final = 50_000  # rows asked about in one go

Floats = NDArray[np.float64]


def grown(found: Study, cancelled: Callable[[], bool] = lambda: False) -> Study:
    """The study with each setting's share and what the forest explains; the same again where runs are too few or it was cancelled.

    Takes seconds for thousands of runs, and scikit-learn's import: for a thread.
    """
    if found.runs < LEAST or not found.settings or len(set(found.order.tolist())) < 2:
        return found
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import KFold

    features, order = _drawn(found)
    worse, missed = np.zeros(len(found.settings)), 0.0
    for fold, (seen, asked) in enumerate(KFold(FOLDS, shuffle=True, random_state=0).split(features)):
        if cancelled():
            return found
        forest = RandomForestRegressor(TREES, random_state=fold).fit(features[seen], order[seen])
        before = float(np.square(forest.predict(features[asked]) - order[asked]).sum())
        missed += before
        for place in range(features.shape[1]):
            if cancelled():
                return found
            worse[place] += _shuffled(forest.predict, features[asked], order[asked], place, fold) - before
    explained = 1 - missed / float(np.square(order - order.mean()).sum())
    worth = np.maximum(worse, 0.0)
    total = float(worth.sum())
    if not total or explained <= 0:  # what knows nothing owes it to nobody
        return replace(found, explained=explained)
    settings = [replace(each, share=float(part) / total) for each, part in zip(found.settings, worth, strict=True)]
    return replace(found, settings=tuple(settings), explained=explained)


def _drawn(found: Study) -> tuple[Floats, Floats]:
    if found.runs <= MOST:
        return found.features, found.order
    chosen = np.random.default_rng(0).choice(found.runs, MOST, replace=False)
    return found.features[chosen], found.order[chosen]


def _shuffled(predict: Callable[[Floats], Floats], asked: Floats, order: Floats, place: int, seed: int) -> float:
    """The squared errors when one setting's values are shuffled, as the mean of several times; asked in one go, which is what takes time."""
    draw = np.random.default_rng((seed, place))
    times = max(1, min(SHUFFLES, AT_ONCE // len(asked)))
    many = np.tile(asked, (times, 1))
    many[:, place] = np.concatenate([draw.permutation(asked[:, place]) for _ in range(times)])
    return float(np.square(predict(many) - np.tile(order, times)).sum()) / times
