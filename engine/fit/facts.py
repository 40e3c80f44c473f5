"""What has to be looked up before a run can be judged: its base's shape, how many rows it has and how long they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
LETTERS: Final = 4  # of English text in a token, as byte-pair encodings of 32,000 to 150,000 tokens have it
TEMPLATE_TOKENS: Final = 20  # what a chat template adds


@dataclass(frozen=True)
class Facts:
    """What the profile's base and data are.

    `shape` is None for an architecture that is not understood (`no_shape` says so). Row counts are before rows are dropped for their
    length. Lengths are in tokens of one example, after cutting: `max_tokens` the most, `mean_tokens` the mean of a sample, `kept_tokens`
    the most that go through the output layer. `assumed` says what was guessed.
    """

    shape: ModelShape | None
    no_shape: str
    train_rows: int
    validation_rows: int
    test_rows: int
    max_tokens: int
    mean_tokens: float
    kept_tokens: int
    assumed: str = ""


def look(profile: Profile, *, guess: bool = False) -> Facts:
    """Look at base and data of a profile whose base is a folder or a hub id; up to seconds.

    With `guess`, a tokenizer that cannot be had (no network, gated) is replaced by a rule of thumb for lengths, and `assumed` says so.

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
    division = divide(profile)
    assumed = ""
    try:
        max_tokens, mean, kept = _measured_lengths(profile, load_tokenizer(base, revision), division)
    except Problem as problem:
        if not guess or shape is None or problem.code not in ("network", "gated"):
            raise
        max_tokens, mean, kept = _guessed_lengths(profile, division, shape.context)
        assumed = f"{base} is not on this machine: a token is taken for {LETTERS} letters."
    return Facts(
        shape=shape,
        no_shape=no_shape,
        train_rows=division.train_rows,
        validation_rows=len(division.parts.validation),
        test_rows=len(division.parts.test),
        max_tokens=max_tokens,
        mean_tokens=mean,
        kept_tokens=kept,
        assumed=assumed,
    )


def _measured_lengths(profile: Profile, tokenizer: ModelTokenizer, division: Division) -> tuple[int, float, int]:
    """Most and mean tokens of an example, and the most columns of a micro-batch that have a supervised token."""
    limit = profile.template.max_tokens
    max_tokens = auto_max_tokens(profile, tokenizer) if limit == "auto" else limit
    renderer = Renderer(tokenizer, profile.template, profile.training.loss_on, max_tokens)
    sample = [rendered for rendered in _sample(renderer, division) if rendered.ids and not rendered.dropped]
    if not sample:
        return max_tokens, float(max_tokens), max_tokens
    sizes = [len(rendered.ids) for rendered in sample]
    # Rows of like length share a micro-batch: of the longer half, the earliest response decides where logits begin.
    middle = sorted(sizes)[len(sizes) // 2]
    earliest = min(rendered.supervised.index(True) for rendered in sample if len(rendered.ids) >= middle)
    return max_tokens, fmean(sizes), max(1, max_tokens - earliest)


def _guessed_lengths(profile: Profile, division: Division, context: int) -> tuple[int, float, int]:
    """As `_measured_lengths`, from letters; every column is taken to go through the output layer."""
    sizes = [
        TEMPLATE_TOKENS + sum(len(message.content) for message in division.example(row).messages) // LETTERS
        for row in _evenly(division.parts.train)
    ]
    limit = profile.template.max_tokens
    most = min(max(sizes), context) if limit == "auto" else limit
    return most, fmean(min(size, most) for size in sizes), most


def _evenly(rows: Sequence[int]) -> list[int]:
    count = min(SAMPLE, len(rows))
    return [rows[place * len(rows) // count] for place in range(count)]


def _sample(renderer: Renderer, division: Division) -> Iterator[Rendered]:
    for row in _evenly(division.parts.train):
        try:
            yield renderer.render(division.example(row))
        except Problem:
            continue  # too long under too_long = fail: preparing the data names the row
