"""A profile's rows, divided into training, validation and test before anything is tokenised: one pass over the data."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from engine.data.examples import CLASSES, Example, value_text
from engine.data.finding import Finding, Tally
from engine.data.mapped import MappedSource, open_mapped
from engine.data.question import prompt_hash
from engine.data.sources import all_columns, combined_fingerprint
from engine.data.split import Parts, read_test_ids, split_rows
from engine.errors import Problem, closest
from engine.profile import Profile


@dataclass(frozen=True)
class Division:
    """The rows of all sources, numbered through from 0, and the part that each is in.

    `ids` are unique. `repeats` says how often each training row is seen in an epoch: more than once where sources have weights.
    `choices` are the values of the label column, empty where there is none or they are no classes.
    """

    sources: tuple[MappedSource, ...]
    ids: tuple[str, ...]
    questions: tuple[str, ...]
    parts: Parts
    repeats: tuple[int, ...]
    choices: tuple[str, ...]
    fingerprint: str
    findings: tuple[Finding, ...]

    @property
    def train_rows(self) -> int:
        """Rows of a training epoch, repeats counted; length limits may still drop some."""
        return sum(self.repeats[row] for row in self.parts.train)

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
    ids, questions, strata, labels, origin = [], [], [], Counter[str](), []
    for place, source in enumerate(sources):
        _check_stratify(source, settings.split.stratify)
        for number in range(len(source)):
            row = source.source.row(number)
            example = source.mapped(row)
            ids.append(example.id)
            questions.append(prompt_hash("\n".join(turn.content for turn in example.messages if turn.role == "user")))
            strata.append(value_text(row.values.get(settings.split.stratify)) if settings.split.stratify else "")
            labels[example.label or ""] += 1
            origin.append(place)
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
    return Division(
        sources=sources,
        ids=_unique(ids, tally),
        questions=tuple(questions),
        parts=parts,
        repeats=_repeats(sources, ids, origin, settings.split.seed),
        choices=tuple(sorted(label for label in labels if label)) if 2 <= len(labels) <= CLASSES else (),
        fingerprint=combined_fingerprint([source.source for source in sources]),
        findings=tally.findings(),
    )


def _open(settings: Profile) -> tuple[tuple[MappedSource, ...], int | None]:
    """The sources, and the row from which on they are a hub data set's own test split, where the profile asks for that."""
    sources = [open_mapped(data, settings.template) for data in settings.data]
    test = settings.split.test
    if not isinstance(test, str) or not test.startswith("split:"):
        return tuple(sources), None
    held_out = settings.data[0].model_copy(update={"split": test.removeprefix("split:")})
    return (*sources, open_mapped(held_out, settings.template)), sum(map(len, sources))


def _check_stratify(source: MappedSource, column: str) -> None:
    columns = all_columns(source.source, [column]) if column else ()
    if column and column not in columns:
        raise Problem(
            f"{source.source.name} has no column {column}{closest(column, columns)}",
            f"split.stratify needs it; the columns are {', '.join(columns)}.",
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


def _repeats(sources: tuple[MappedSource, ...], ids: list[str], origin: list[int], seed: int) -> tuple[int, ...]:
    """How often each row is seen in an epoch: its source's weight over the smallest; a fraction falls to rows by lot."""
    smallest = min(source.weight for source in sources)
    weights = [source.weight / smallest for source in sources]
    if all(weight == 1 for weight in weights):
        return (1,) * len(ids)
    repeats = []
    for name, place in zip(ids, origin, strict=True):
        whole = int(weights[place])
        lot = int.from_bytes(hashlib.sha256(f"{seed} weight {place} {name}".encode()).digest()[:8], "big") / 2**64
        repeats.append(whole + (lot < weights[place] - whole))
    return tuple(repeats)
