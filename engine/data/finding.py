"""What is found in data: each finding a stable id, how bad it is, how often, where, and a sentence for people."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Severity = Literal["error", "warning", "info"]
EXAMPLES: Final = 20  # row numbers kept for each finding
_ORDER: Final[dict[Severity, int]] = {"error": 0, "warning": 1, "info": 2}

# id: severity, and what is true of the rows. An error makes training wrong or impossible, a warning makes it worse, info is worth knowing.
KNOWN: Final[dict[str, tuple[Severity, str]]] = {
    "broken_row": ("error", "cannot be read"),
    "bad_conversation": ("error", "no conversation that can be read"),
    "template_refuses": ("error", "refused by the chat template"),
    "double_bos": ("error", "BOS token twice at the start"),
    "no_eos": ("error", "no token ends the response: the model would never learn to stop"),
    "eos_masked": ("error", "EOS is there, but the loss does not count it: the model would never learn to stop"),
    "all_masked": ("error", "no supervised token: nothing to learn"),
    "not_prefix": ("error", "prompt's tokens no prefix of the whole: at evaluation the model sees other tokens"),
    "answer_truncated": ("error", "response over the length limit: cut, it would lose its end, so left out"),
    "prompt_fills_window": ("error", "prompt alone fills the length limit: left out"),
    "too_long": ("warning", "over the length limit: left out"),
    "input_cut": ("warning", "over the length limit: the end of the input is cut off"),
    "turns_cut": ("warning", "over the length limit: later turns of the conversation left out"),
    "cut_in_pieces": ("info", "over the length limit: cut into consecutive pieces, nothing lost"),
    "one_sample_a_turn": (
        "info",
        "earlier responses written differently as history: each response is a sample of its own, as the model sees it then",
    ),
    "eos_appended": ("info", "EOS token added after the response, because the template writes none"),
    "pad_is_eos": (
        "info",
        "same token for padding and EOS: padding is masked by its place, so EOS is learned all the same",
    ),
    "tools_ignored": ("warning", "tools or their answers, which the chat template does not write"),
    "response_not_written": (
        "error",
        "response that the chat template does not write (it may want parts of texts and images): left out",
    ),
    "tool_call_not_written": ("error", "tool call that the chat template does not write: left out"),
    "phantom_nulls": (
        "warning",
        "null in a tool or its call, as tables add for keys that other rows have: keep them as JSON text",
    ),
    "role_order": ("warning", "two turns of one speaker in a row, or a response before a question"),
    "identical_responses": ("warning", "chosen and rejected are the same: left out"),
    "responses_rewritten": ("error", "several different responses, which the template rewrites as history: left out"),
    "empty_text": ("warning", "empty document: left out"),
    "not_asked": ("info", "held out, but in no suite: plain text and tools ask no question of one"),
    "length_bias": ("info", "chosen response longer than the rejected one: longer may be learned for better"),
    "special_in_text": ("warning", "special tokens written out as text"),
    "empty_output": ("warning", "empty or placeholder response"),
    "response_empty": ("warning", "nothing in the response: left out"),
    "no_response": ("warning", "no response: left out"),
    "output_copies_input": ("warning", "response only repeats the question or input"),
    "conflicting_answers": ("warning", "same question as another row, different answer"),
    "exact_duplicates": ("warning", "exactly as an earlier row"),
    "normalised_duplicates": ("info", "as an earlier row but for case, blanks or Unicode form"),
    "split_twins": ("warning", "same question as a held-out row: left out of training"),
    "duplicate_ids": ("warning", "id of another row"),
    "unknown_test_ids": ("warning", "in no row"),
    "mixed_types": ("warning", "value of another type than in most rows"),
    "late_keys": ("info", "column that the first rows lack"),
    "missing_keys": ("info", "column missing that most rows have"),
    "bom": ("info", "byte order mark at the start, passed over"),
    "bad_text": ("warning", "NUL, replacement characters or other damaged text"),
    "label_synonyms": ("warning", "label differs from another only in case or blanks"),
    "label_imbalance": ("info", "most frequent label: always saying it is the score to beat"),
    "label_missing": ("warning", "no label, where others have one"),
    "length_outliers": ("info", "far longer than the rest"),
}
SUBJECTS: Final = {"bom": "file", "unknown_test_ids": "test id", "pad_is_eos": "tokenizer"}  # of what is not about rows


@dataclass(frozen=True)
class Finding:
    """`count` rows (numbers from 1, the first few in `rows`) of which `sentence` tells."""

    id: str
    severity: Severity
    count: int
    rows: tuple[int, ...]
    sentence: str


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings by severity, then by how many rows they are true of."""
    return tuple(sorted(findings, key=lambda finding: (_ORDER[finding.severity], -finding.count, finding.id)))


class Tally:
    """Counts findings while rows go by; a finding names the first few of its rows, `rows` has them all."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._rows: dict[str, array[int]] = {}
        self._details: dict[str, str] = {}

    def add(self, finding: str, row: int | None, detail: str = "") -> None:
        """One more row (counted from 1) of which the finding is true; the first detail is kept."""
        self._counts[finding] = self._counts.get(finding, 0) + 1
        rows = self._rows.setdefault(finding, array("q"))
        if row is not None:
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
        self._rows.setdefault(finding, array("q")).extend(rows)
        if detail:
            self._details.setdefault(finding, detail)

    def findings(self) -> tuple[Finding, ...]:
        """All that was found, worst and most frequent first."""
        return worst_first(map(self._finding, self._counts))

    def rows(self) -> dict[str, NDArray[np.int64]]:
        """All rows (counted from 1) that a finding is true of, for findings that know them all."""
        return {name: np.array(rows) for name, rows in self._rows.items() if len(rows) == self._counts[name]}

    def _finding(self, name: str) -> Finding:
        severity, sentence = KNOWN[name]
        detail = self._details.get(name, "")
        count = self._counts[name]
        subject = SUBJECTS.get(name, "row") + ("" if count == 1 else "s")
        text = f"{count:,} {subject}: {sentence}" + (f" ({detail})" if detail else "")
        return Finding(name, severity, count, tuple(self._rows[name][:EXAMPLES]), text)
