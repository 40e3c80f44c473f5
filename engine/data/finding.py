"""What is found in data: each finding a stable id, how bad it is, how often, where, and a sentence for people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

Severity = Literal["error", "warning", "info"]
EXAMPLES: Final = 20  # row numbers kept for each finding
_ORDER: Final[dict[Severity, int]] = {"error": 0, "warning": 1, "info": 2}

# id: severity, sentence. An error makes training wrong or impossible, a warning makes it worse, info is worth knowing.
KNOWN: Final[dict[str, tuple[Severity, str]]] = {
    "broken_row": ("error", "cannot be read: the line is not valid"),
    "bad_conversation": ("error", "hold no conversation that can be read"),
    "template_refuses": ("error", "are refused by the chat template"),
    "double_bos": ("error", "start with the BOS token twice"),
    "no_eos": ("error", "have no token that ends the response: the model would never learn to stop"),
    "eos_masked": ("error", "end with EOS, but the loss does not count it: the model would never learn to stop"),
    "all_masked": ("error", "have no supervised token: nothing is learned from them"),
    "not_prefix": (
        "error",
        "have a prompt whose tokens are not a prefix of the whole: at evaluation the model sees others",
    ),
    "answer_truncated": (
        "error",
        "have a response that does not fit the length limit: cut, it would lose its end, so they are left out",
    ),
    "prompt_fills_window": ("error", "have a prompt that alone fills the length limit: they are left out"),
    "too_long": ("warning", "are longer than the length limit and are left out"),
    "input_cut": ("warning", "are longer than the length limit: the end of their input is cut off"),
    "turn_masked": (
        "warning",
        "have earlier responses that the template writes differently as history: only later ones are trained on",
    ),
    "eos_appended": ("info", "get an EOS token after the response, because the template writes none"),
    "special_in_text": ("warning", "contain special tokens written out as text"),
    "empty_output": ("warning", "have an empty or placeholder response"),
    "no_response": ("warning", "have no response and are left out"),
    "output_copies_input": ("warning", "have a response that only repeats the question or input"),
    "conflicting_answers": ("warning", "ask the same as another row but answer differently"),
    "exact_duplicates": ("warning", "repeat another row exactly"),
    "normalised_duplicates": ("info", "repeat another row but for case, blanks or Unicode form"),
    "split_twins": ("warning", "ask the same as a held-out row: they are left out of training"),
    "duplicate_ids": ("warning", "have an id that another row has, too"),
    "unknown_test_ids": ("warning", "ids in the test file are in no row"),
    "mixed_types": ("warning", "hold a value of another type than most rows in that column"),
    "late_keys": ("info", "have a column that the first rows lack"),
    "missing_keys": ("info", "lack a column that most rows have"),
    "bom": ("info", "file starts with a byte order mark, which is passed over"),
    "bad_text": ("warning", "contain NUL, replacement characters or other damaged text"),
    "label_synonyms": ("warning", "have a label that differs from another only in case or blanks"),
    "label_imbalance": ("info", "have the most frequent label: always saying it is the score to beat"),
    "label_missing": ("warning", "have no label, others do"),
    "length_outliers": ("info", "are far longer than the rest"),
}


@dataclass(frozen=True)
class Finding:
    """`count` rows (numbers from 1, the first few in `rows`) of which `sentence` is true."""

    id: str
    severity: Severity
    count: int
    rows: tuple[int, ...]
    sentence: str


class Tally:
    """Counts findings while rows go by, keeping only the first few row numbers of each."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._rows: dict[str, list[int]] = {}
        self._details: dict[str, str] = {}

    def add(self, finding: str, row: int | None, detail: str = "") -> None:
        """One more row (counted from 1) of which the finding is true; the first detail is kept."""
        self._counts[finding] = self._counts.get(finding, 0) + 1
        rows = self._rows.setdefault(finding, [])
        if row is not None and len(rows) < EXAMPLES:
            rows.append(row)
        if detail:
            self._details.setdefault(finding, detail)

    def add_all(self, finding: str, rows: Iterable[int], detail: str = "") -> None:
        """As `add`, for several rows."""
        for row in rows:
            self.add(finding, row, detail)

    def add_count(self, finding: str, count: int, rows: Iterable[int], detail: str = "") -> None:
        """As `add`, for `count` rows of which only some are named."""
        self._counts[finding] = self._counts.get(finding, 0) + count
        kept = self._rows.setdefault(finding, [])
        kept += list(rows)[: EXAMPLES - len(kept)]
        if detail:
            self._details.setdefault(finding, detail)

    def findings(self) -> tuple[Finding, ...]:
        """All that was found, worst and most frequent first."""
        found = [self._finding(name) for name in self._counts]
        return tuple(sorted(found, key=lambda finding: (_ORDER[finding.severity], -finding.count, finding.id)))

    def _finding(self, name: str) -> Finding:
        severity, sentence = KNOWN[name]
        detail = self._details.get(name, "")
        count = self._counts[name]
        subject = "" if name in ("bom", "unknown_test_ids") else "row " if count == 1 else "rows "
        text = f"{count:,} {subject}{sentence}" + (f" ({detail})" if detail else "")
        return Finding(name, severity, count, tuple(self._rows[name]), text)
