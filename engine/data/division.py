"""A profile's rows, divided into training, validation and test before anything is tokenised: one pass over the data."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.data.examples import CLASSES, Example, value_text
from engine.data.finding import Finding, Tally
from engine.data.mapped import MappedSource, open_mapped
from engine.data.mixing import Part, mixture, repeats_of
from engine.data.question import prompt_hash
from engine.data.sources import all_columns, combined_fingerprint
from engine.data.split import Parts, read_test_ids, split_rows
from engine.errors import Problem, closest
from engine.profile import Profile


@dataclass(frozen=True)
class Division:
    """The rows of all sources, numbered through from 0, and the part that each is in.

    `ids` are unique. `repeats` says how often each training row is seen in an epoch, as the sources' weights have it; `mixture` what that
    makes of each source.
    `choices` are the values of the label column, empty where there is none or they are no classes.
    """

    sources: tuple[MappedSource, ...]
    ids: tuple[str, ...]
    parts: Parts
    repeats: Mapping[int, int]
    mixture: tuple[Part, ...]
    choices: tuple[str, ...]
    fingerprint: str
    findings: tuple[Finding, ...]

    @property
    def train_rows(self) -> int:
        """Rows of a training epoch, repeats counted; length limits may still drop some."""
        return sum(self.repeats.values())

    def example(self, row: int) -> Example:
        """Row `row` as an example with its unique id."""
        place = row
        for source in self.sources:
            if place < len(source):
                return replace(source.example(place), id=self.ids[row])
            place -= len(source)
        raise IndexError(row)


def divide(settings: Profile) -> Division:
    """Read all rows once and divide them.

    Raises:
        Problem: missing data or columns, a broken row (naming file and line), a test set without a row here, nothing left to train on.
    """
    sources, given_from = _open(settings)
    ids, questions, strata, labels = [], [], [], Counter[str]()
    _check_stratify(sources, settings.split.stratify)
    for source in sources:
        for number in range(len(source)):
            row = source.source.row(number)
            example = source.mapped(row)
            ids.append(example.id)
            questions.append(prompt_hash(example.asked))
            strata.append(value_text(row.values.get(settings.split.stratify)) if settings.split.stratify else "")
            labels[example.label or ""] += 1
    tally = Tally()
    given = frozenset(range(given_from, len(ids))) if given_from is not None else _given_test(settings, ids, tally)
    parts = split_rows(questions, strata, settings.split, given)
    tally.add_all("split_twins", (row + 1 for row in parts.twins))
    if not parts.train:
        raise Problem(
            "No row is left to train on",
            f"Of {len(ids):,} rows {len(parts.test):,} are held out for testing and {len(parts.validation):,} for validation.",
            "Set split.test and split.validation to smaller shares.",
            code="data",
        )
    unique = _unique(ids, tally)
    repeats = _repeats(sources, parts.train, unique, settings.split.seed)
    named = [(source.source.name, source.weight) for source in sources]
    return Division(
        sources=sources,
        ids=unique,
        parts=parts,
        repeats={row: times for rows in repeats for row, times in rows.items()},
        mixture=mixture(named[: len(settings.data)], repeats[: len(settings.data)]),
        choices=tuple(sorted(label for label in labels if label)) if 2 <= len(labels) <= CLASSES else (),
        fingerprint=combined_fingerprint([source.source for source in sources]),
        findings=tally.findings(),
    )


def _open(settings: Profile) -> tuple[tuple[MappedSource, ...], int | None]:
    """The sources, and the row from which on they are a hub data set's own test split, where the profile asks for that."""
    objective = settings.training.objective
    sources = [open_mapped(data, settings.template, objective) for data in settings.data]
    test = settings.split.test
    if not isinstance(test, str) or not test.startswith("split:"):
        return tuple(sources), None
    held_out = settings.data[0].model_copy(update={"split": test.removeprefix("split:")})
    return (*sources, open_mapped(held_out, settings.template, objective)), sum(map(len, sources))


def _check_stratify(sources: Sequence[MappedSource], column: str) -> None:
    """See that a source has the column; rows of those that lack it are a stratum of their own."""
    columns = [name for source in sources for name in all_columns(source.source, [column])] if column else []
    if column and column not in columns:
        raise Problem(
            f"{', '.join(source.source.name for source in sources)} has no column {column}{closest(column, columns)}",
            f"split.stratify needs it; the columns are {', '.join(dict.fromkeys(columns))}.",
            code="data",
        )


def _given_test(settings: Profile, ids: list[str], tally: Tally) -> frozenset[int] | None:
    """The rows whose ids are in the profile's test file; None where the test set is a share."""
    test = settings.split.test
    if not isinstance(test, str):
        return None
    wanted = frozenset(read_test_ids(Path(test).expanduser()))
    found = frozenset(row for row, name in enumerate(ids) if name in wanted)
    if not found:
        raise Problem(
            f"None of the {len(wanted):,} test ids is in the data",
            f"{test} has ids such as {min(wanted)}, the rows have ids such as {ids[0]}.",
            'Say which column holds the ids: columns = { ..., id = "..." }',
            code="data",
        )
    for _ in range(len(wanted) - len({ids[row] for row in found})):
        tally.add("unknown_test_ids", None)
    return found


def _unique(ids: list[str], tally: Tally) -> tuple[str, ...]:
    """The ids with a counter behind those that came before."""
    seen: Counter[str] = Counter()
    unique = []
    for row, name in enumerate(ids):
        seen[name] += 1
        if seen[name] > 1:
            tally.add("duplicate_ids", row + 1, f"{name!r}")
        unique.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return tuple(unique)


def _repeats(
    sources: Sequence[MappedSource], train: Sequence[int], names: Sequence[str], seed: int
) -> list[dict[int, int]]:
    """For each source how often its training rows are seen."""
    found, first = [], 0
    for source in sources:
        rows = train[bisect_left(train, first) : bisect_left(train, first + len(source))]
        found.append(repeats_of(source.weight, rows, names, seed))
        first += len(source)
    return found
