"""Which rows are trained on, which measure validation loss, and which are held out: by seed and content, never by position.

Rows that ask the same go to the same part, so that no held-out question was seen in training. Each part holds the strata in equal shares.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from engine import profile
from engine.errors import Problem


@dataclass(frozen=True)
class Parts:
    """Row numbers, ascending. `twins` ask the same as a row of a test set that was given, and are in no part."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]
    twins: tuple[int, ...]


def split_rows(
    questions: Sequence[str], strata: Sequence[str], settings: profile.Split, given_test: frozenset[int] | None = None
) -> Parts:
    """Divide rows into parts.

    `questions` holds for each row something equal for rows that ask the same (a prompt hash), `strata` the value to stratify by.
    `given_test` are the rows of a test set that was fixed before; None takes `settings.test` as a share.
    """
    everything = range(len(questions))
    if given_test is None:
        share = settings.test if isinstance(settings.test, float) else 0.0
        test = _take(everything, share, questions, strata, f"{settings.seed} test")
    else:
        test = set(given_test)
    asked = {questions[row] for row in test}
    twins = {row for row in everything if row not in test and questions[row] in asked}
    rest = [row for row in everything if row not in test and row not in twins]
    validation = _take(rest, settings.validation, questions, strata, f"{settings.seed} validation")
    train = [row for row in rest if row not in validation]
    return Parts(tuple(train), tuple(sorted(validation)), tuple(sorted(test)), tuple(sorted(twins)))


def read_test_ids(path: Path) -> tuple[str, ...]:
    """The ids in a file: a JSON list, a JSON object keyed by id, or a text file with an id on each line.

    Raises:
        Problem: the file cannot be read or holds no ids (code `data`).
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Problem(f"The test ids {path} cannot be read", f"{error.strerror}.", code="data") from error
    if path.suffix.lower() != ".json":
        ids = [line.strip() for line in content.decode("utf-8", errors="replace").splitlines() if line.strip()]
    else:
        try:
            value = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise Problem(f"{path}:{error.lineno}: this is not JSON", f"{error}.", code="data") from error
        if not isinstance(value, list | dict) or any(isinstance(entry, list | dict) for entry in list(value)):
            raise Problem(
                f"{path} holds no ids", "Wanted is a JSON list of ids, or an object keyed by id.", code="data"
            )
        ids = [str(entry) for entry in value]
    if not ids:
        raise Problem(f"{path} holds no ids", "It is empty.", code="data")
    return tuple(dict.fromkeys(ids))


def _take(rows: Iterable[int], share: float, questions: Sequence[str], strata: Sequence[str], seed: str) -> set[int]:
    """A share of the rows: whole groups of equal questions, from each stratum as many as it is due."""
    groups: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        groups[questions[row]].append(row)
    if not share or len(groups) < 2:
        return set()
    by_stratum: dict[str, list[list[int]]] = defaultdict(list)
    for members in groups.values():
        by_stratum[strata[members[0]]].append(members)
    sizes = {stratum: sum(map(len, found)) for stratum, found in by_stratum.items()}
    taken: set[int] = set()
    for stratum, quota in _quotas(sizes, share).items():
        ordered = sorted(by_stratum[stratum], key=lambda members: _lot(seed, questions[members[0]]))
        left = quota
        for members in ordered:
            if len(members) <= left:
                taken.update(members)
                left -= len(members)
    return taken


def _quotas(sizes: dict[str, int], share: float) -> dict[str, int]:
    """Rows due from each stratum, by largest remainder, so that they add up to the rounded share of the whole."""
    total = max(1, round(sum(sizes.values()) * share))
    quotas = {stratum: int(size * share) for stratum, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda stratum: (quotas[stratum] - sizes[stratum] * share, stratum))
    for stratum in by_remainder[: total - sum(quotas.values())]:
        quotas[stratum] += 1
    return quotas


def _lot(seed: str, question: str) -> bytes:
    return hashlib.sha256(f"{seed} {question}".encode()).digest()
