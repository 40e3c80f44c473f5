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

from engine.collecting import without_collecting
from engine.ledger.importance import Study

LEAST: Final = 10  # runs: two to ask about in each fold
MOST: Final = 1000  # runs, drawn from more: others would only take time
FOLDS: Final = 5
TREES: Final = 100
SHUFFLES: Final = 5
AT_ONCE: Final = 10_000_000  # numbers asked about in one go
FURTHEST: Final = float(np.finfo(np.float32).max)  # of scikit-learn's trees, which take no number beyond it
MANY: Final = 9  # settings, from which a tree's splits choose among a third of them (Breiman's rule for regression)

Floats = NDArray[np.float64]


def grown(found: Study, cancelled: Callable[[], bool] = lambda: False) -> Study:
    """The study with each setting's share and what the forest explains; the same again where runs are too few or it was cancelled.

    Takes seconds for thousands of runs, and scikit-learn's import: for a thread.
    """
    if found.runs < LEAST or not found.settings or len(set(found.order.tolist())) < 2:
        return found
    with without_collecting():
        from sklearn.ensemble import RandomForestRegressor
        from sklearn.model_selection import KFold

    features, order = _drawn(found)
    features = np.clip(features, -FURTHEST, FURTHEST)  # infinities too; NaN stays
    worse, missed = np.zeros(len(found.settings)), 0.0
    share = 1 / 3 if len(found.settings) >= MANY else 1.0  # of the settings, that each split of a tree chooses from
    for fold, (seen, asked) in enumerate(KFold(FOLDS, shuffle=True, random_state=0).split(features)):
        if cancelled():
            return found
        forest = RandomForestRegressor(TREES, max_features=share, random_state=fold).fit(features[seen], order[seen])
        before = float(np.square(forest.predict(features[asked]) - order[asked]).sum())
        missed += before
        for places in np.array_split(
            range(features.shape[1]), _parts(features.shape[1] * features[asked].size * SHUFFLES)
        ):
            if cancelled():
                return found
            worse[places] += _shuffled(forest.predict, features[asked], order[asked], places, fold) - before
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


def _parts(numbers: int) -> int:
    return 1 + numbers // AT_ONCE


def _shuffled(
    predict: Callable[[Floats], Floats], asked: Floats, order: Floats, places: NDArray[np.int64], seed: int
) -> Floats:
    """The squared errors when each of these settings is shuffled, as means of several times; asked in one go, which is what takes time."""
    draw = np.random.default_rng((seed, *places.tolist()))
    many = np.tile(asked, (len(places) * SHUFFLES, 1))
    blocks = many.reshape(len(places), SHUFFLES, *asked.shape)
    for block, place in zip(blocks, places, strict=True):
        for shuffled in block:
            shuffled[:, place] = draw.permutation(asked[:, place])
    missed = np.square(predict(many).reshape(len(places), SHUFFLES, len(asked)) - order)
    means: Floats = missed.sum(axis=2).mean(axis=1)
    return means
