"""What has to be looked up before a run can be judged: its base's shape, how many rows it has and how long they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Final

from engine.data.division import Division, divide
from engine.data.limits import PIECE, auto_max_tokens
from engine.data.mapping import PREFERENCE
from engine.data.rendered import Rendered, Sampler
from engine.data.sampler import sampler
from engine.data.tokenizer import ModelTokenizer, load_tokenizer
from engine.errors import Problem
from engine.fit import shapes
from engine.fit.shape import ModelShape
from engine.profile import Profile

SAMPLE: Final = 200  # training rows, evenly spaced, whose lengths stand for all
MANY: Final = 2000  # that are looked at for the longest
UNSEEN: Final = 1.25  # by which the longest may be longer than those that were looked at
LETTERS: Final = 4  # of English text in a token, as byte-pair encodings of 32,000 to 150,000 tokens have it
TEMPLATE_TOKENS: Final = 20  # what a chat template adds


@dataclass(frozen=True)
class Facts:
    """What the profile's base and data are.

    `config` is the base's config.json. Row counts are before rows are dropped for their length; `train_rows` counts what an effective batch
    is counted in: pieces of documents, samples of conversations, pairs of preferences.
    Lengths are in tokens of one row as the model is shown it, of which an example has `rows_per_example`, after cutting: `max_tokens` the
    most that are left, `mean_tokens` the mean of some, `kept_tokens` the most that go through the output layer, `longest_tokens` those of the
    longest row, where no row is as long as it may be. `assumed` says what was guessed.
    """

    config: Mapping[str, object]
    train_rows: int
    validation_rows: int
    test_rows: int
    max_tokens: int
    mean_tokens: float
    kept_tokens: int
    assumed: str = ""
    rows_per_example: int = 1
    longest_tokens: int | None = None

    @cached_property
    def shape(self) -> ModelShape | None:
        """The base's widths; None for an architecture that the closed formulas do not understand.

        Raises:
            Problem: config.json lacks a key ("model").
        """
        try:
            return shapes.from_config(self.config, "the base")
        except Problem as problem:
            if problem.code != "shape":
                raise
        return None


@dataclass(frozen=True)
class _Lengths:
    """Of rows: the most tokens that they may have, the mean, the most that go through the output layer, the most that they have; and how many
    examples a row of the data makes."""

    most: int
    mean: float
    kept: int
    longest: int | None = None
    examples: float = 1.0


def look(profile: Profile, *, guess: bool = False) -> Facts:
    """Look at base and data of a profile whose base is a folder or a hub id; up to seconds.

    With `guess`, a tokenizer that cannot be had (no network, gated, none beside config.json) is replaced by a rule of thumb for lengths, and `assumed` says so.

    Raises:
        Problem: unknown or gated model, no network, missing data or columns.
    """
    base, revision = profile.model.base, profile.model.revision
    config = shapes.config_of(base, revision)
    division = divide(profile)
    assumed = ""
    try:
        lengths = _measured_lengths(profile, load_tokenizer(base, revision), division)
    except Problem as problem:
        if not guess or problem.code not in ("network", "gated", "tokenizer"):
            raise
        lengths = _guessed_lengths(profile, division, shapes.context_of(config))
        lacks = "has no tokenizer.json to train with" if problem.code == "tokenizer" else "is not on this machine"
        assumed = f"{base} {lacks}: a token is taken for {LETTERS} letters."
    return Facts(
        config=config,
        train_rows=round(division.train_rows * lengths.examples),
        validation_rows=len(division.parts.validation),
        test_rows=len(division.parts.test),
        max_tokens=lengths.most,
        mean_tokens=lengths.mean,
        kept_tokens=lengths.kept,
        assumed=assumed,
        rows_per_example=_rows_per_example(profile),
        longest_tokens=lengths.longest,
    )


def _rows_per_example(profile: Profile) -> int:
    return 2 if profile.training.objective in PREFERENCE else 1


def _measured_lengths(profile: Profile, tokenizer: ModelTokenizer, division: Division) -> _Lengths:
    """Lengths of some training rows, rendered."""
    limit = profile.template.max_tokens
    most = auto_max_tokens(profile, tokenizer) if limit == "auto" else limit
    # A limit that the data set is reached by a hundredth of them; one that a person sets may be far from any row.
    rows = _evenly(division.parts.train, SAMPLE if limit == "auto" else MANY)
    looked = list(_samples(sampler(tokenizer, profile.template, profile.training, most), division, rows))
    made = [rendered for samples in looked for rendered in samples]
    whole = [rendered for rendered in made if rendered.ids and not rendered.dropped]
    if not whole:
        return _Lengths(most, float(most), most)
    sizes = [len(rendered.ids) for rendered in whole]
    # Rows of like length share a micro-batch: of the longer half, the earliest response decides where logits begin.
    middle = sorted(sizes)[len(sizes) // 2]
    earliest = min(rendered.supervised.index(True) for rendered in whole if len(rendered.ids) >= middle)
    examples = len(made) / len(looked) / _rows_per_example(profile)
    unseen = 1.0 if len(rows) == len(division.parts.train) else UNSEEN
    longest = most if limit == "auto" else min(most, round(unseen * max(sizes)))
    return _Lengths(most, fmean(sizes), max(1, longest - earliest), longest, examples)


def _guessed_lengths(profile: Profile, division: Division, context: int | None) -> _Lengths:
    """As `_measured_lengths`, from letters; every column is taken to go through the output layer. `context` None: as long as they are."""
    sizes = [
        TEMPLATE_TOKENS + sum(map(len, division.example(row).texts)) // LETTERS // _rows_per_example(profile)
        for row in _evenly(division.parts.train, SAMPLE)
    ]
    limit = profile.template.max_tokens
    pretrain = profile.training.objective == "pretrain"
    longest = min(max(sizes), context or max(sizes), PIECE if pretrain else max(sizes))
    most = longest if limit == "auto" else limit
    examples = fmean(-(-size // most) for size in sizes) if pretrain else 1.0
    kept = min(most, longest)
    return _Lengths(most, fmean(min(size, most) for size in sizes), kept, kept, examples)


def _evenly(rows: Sequence[int], most: int) -> list[int]:
    count = min(most, len(rows))
    return [rows[place * len(rows) // count] for place in range(count)]


def _samples(making: Sampler, division: Division, rows: Sequence[int]) -> Iterator[tuple[Rendered, ...]]:
    for row in rows:
        try:
            yield making.samples(division.example(row))
        except Problem:
            continue  # too long under too_long = fail: preparing the data names the row
