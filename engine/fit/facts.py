"""What has to be looked up before a run can be judged: its base's shape, how many rows it has and how long they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from engine.data.division import Division, divide
from engine.data.prepare import auto_max_tokens
from engine.data.render import Rendered, Renderer
from engine.data.tokenizer import ModelTokenizer, load_tokenizer
from engine.errors import Problem
from engine.fit import shapes
from engine.fit.shapes import ModelShape
from engine.profile import Profile

SAMPLE: Final = 200  # training rows, evenly spaced, whose lengths stand for all


@dataclass(frozen=True)
class Facts:
    """What the profile's base and data are.

    `shape` is None for an architecture that is not understood (`no_shape` says so). Row counts are before rows are dropped for their
    length. Lengths are in tokens of one example, after cutting: `max_tokens` the most, `mean_tokens` the mean of a sample, `kept_tokens`
    the most that go through the output layer.
    """

    shape: ModelShape | None
    no_shape: str
    train_rows: int
    validation_rows: int
    test_rows: int
    max_tokens: int
    mean_tokens: float
    kept_tokens: int


def look(profile: Profile) -> Facts:
    """Look at base and data of a profile whose base is a folder or a hub id; up to seconds.

    Raises:
        Problem: unknown or gated model, no network, missing data or columns.
    """
    base, revision = profile.model.base, profile.model.revision
    try:
        shape, no_shape = shapes.of_model(base, revision), ""
    except Problem as problem:
        if problem.code != "shape":
            raise
        shape, no_shape = None, problem.why
    tokenizer = load_tokenizer(base, revision)
    division = divide(profile)
    limit = profile.template.max_tokens
    max_tokens = auto_max_tokens(profile, tokenizer) if limit == "auto" else limit
    mean, kept = _lengths(profile, tokenizer, division, max_tokens)
    return Facts(
        shape=shape,
        no_shape=no_shape,
        train_rows=division.train_rows,
        validation_rows=len(division.parts.validation),
        test_rows=len(division.parts.test),
        max_tokens=max_tokens,
        mean_tokens=mean,
        kept_tokens=kept,
    )


def _lengths(profile: Profile, tokenizer: ModelTokenizer, division: Division, max_tokens: int) -> tuple[float, int]:
    """Mean tokens of an example, and the most columns of a micro-batch that have a supervised token."""
    renderer = Renderer(tokenizer, profile.template, profile.training.loss_on, max_tokens)
    sample = [rendered for rendered in _sample(renderer, division) if rendered.ids and not rendered.dropped]
    if not sample:
        return float(max_tokens), max_tokens
    sizes = [len(rendered.ids) for rendered in sample]
    # Rows of like length share a micro-batch: of the longer half, the earliest response decides where logits begin.
    middle = sorted(sizes)[len(sizes) // 2]
    earliest = min(rendered.supervised.index(True) for rendered in sample if len(rendered.ids) >= middle)
    return fmean(sizes), max(1, max_tokens - earliest)


def _sample(renderer: Renderer, division: Division) -> Iterator[Rendered]:
    rows = division.parts.train
    count = min(SAMPLE, len(rows))
    for place in range(count):
        try:
            yield renderer.render(division.example(rows[place * len(rows) // count]))
        except Problem:
            continue  # too long under too_long = fail: preparing the data names the row
