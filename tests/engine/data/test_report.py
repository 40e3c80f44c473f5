"""What the report finds, each finding provoked by a row that has it and by no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from engine import profile
from engine.data.check import DROPPED, RENDER_CHECKS, ROW_CHECKS
from engine.data.finding import KNOWN
from engine.data.mapped import MappedSource, open_mapped
from engine.data.render import Renderer
from engine.data.rendered import Note
from engine.data.report import DataReport, histogram, summarise
from engine.data.scan import Stopped, label_synonyms, scan
from tests.engine.data.conftest import MakeTokenizer
from tests.engine.data.templates import CHATML

Rows = list[dict[str, object]]
GOOD = [{"question": f"Is recording {n} raised?", "answer": f"Yes, by {n} percent."} for n in range(20)]


def source(folder: Path, lines: Rows | bytes) -> MappedSource:
    content = lines if isinstance(lines, bytes) else "\n".join(map(json.dumps, lines)).encode()
    (folder / "rows.jsonl").write_bytes(content)
    return open_mapped(profile.Data(source=str(folder / "rows.jsonl")), profile.Template())


def report(
    sources: list[MappedSource],
    renderer: Renderer | None,
    limit: int | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> DataReport:
    return summarise(sources, scan(sources, renderer, limit, stopped=stopped))


def found(made: DataReport) -> dict[str, tuple[int, tuple[int, ...]]]:
    return {finding.id: (finding.count, finding.rows) for finding in made.findings}


def test_clean_data_have_no_findings(tmp_path: Path, make_tokenizer: MakeTokenizer) -> None:
    renderer = Renderer(make_tokenizer(CHATML), profile.Template())
    made = report([source(tmp_path, list(GOOD))], renderer, 200)
    assert made.findings == ()
    assert (made.rows, made.shape, made.lengths.unit, made.lengths.over) == (20, "instruction", "tokens", 0)
    assert sum(made.lengths.counts) == 20
    assert 0 < made.lengths.supervised < made.lengths.total


BROKEN: dict[str, Rows] = {
    "empty_output": [{"question": "Is it?", "answer": "N/A"}],
    "output_copies_input": [{"question": "Is it  raised?", "answer": "is it raised?"}],
    "bad_text": [{"question": "Is the cafÃ© raised?", "answer": "Yes \ufffd."}],
    "exact_duplicates": [GOOD[0]],
    "normalised_duplicates": [{"question": "is  recording 0 raised?", "answer": "YES, by 0 percent."}],
    "mixed_types": [{"question": "Is it?", "answer": 3}],
    "length_outliers": [{"question": "Is it? " * 200, "answer": "Yes."}],
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_row_with_one_fault_is_found(name: str, tmp_path: Path) -> None:
    made = report([source(tmp_path, [*GOOD, *BROKEN[name]])], None)
    assert found(made) == {name: (1, (21,))}
    assert made.lengths.unit == "characters"


def test_conflicting_answers_name_all_rows_of_the_question(tmp_path: Path) -> None:
    lines: Rows = [*GOOD, {"question": "IS recording 3 raised?", "answer": "No."}]
    made = report([source(tmp_path, lines)], None)
    assert found(made) == {"conflicting_answers": (2, (4, 21))}
    assert made.duplicates.conflicting == 2


def test_broken_lines_are_findings_and_the_rest_is_reported(tmp_path: Path) -> None:
    lines = [json.dumps(row).encode() for row in GOOD]
    lines[6] = b'{"question": '
    lines[9] = b'{"question": "\xff"}'
    made = report([source(tmp_path, b"\xef\xbb\xbf" + b"\n".join(lines))], None)
    assert found(made) == {"broken_row": (2, (7, 10)), "bom": (1, ())}
    assert "rows.jsonl:7" in made.findings[0].sentence
    assert made.findings[0].severity == "error"


def test_late_and_missing_keys(tmp_path: Path) -> None:
    lines: Rows = [
        {"question": f"Is {n}?", "answer": f"Yes {n}.", **({"late": n} if n > 120 else {})} for n in range(150)
    ]
    lines[5]["answer"] = "No."
    lines[7] = {**lines[7], "source": "x"}
    made = report([source(tmp_path, lines)], None)
    assert found(made)["late_keys"] == (29, (122,))
    del lines[3]["question"]
    assert "missing_keys" in found(report([source(tmp_path, lines)], None))
    assert {column.name: column.first_row for column in made.columns} == {
        "question": 1,
        "answer": 1,
        "source": 8,
        "late": 122,
    }


def test_labels(tmp_path: Path) -> None:
    labels = ["yes"] * 12 + ["Yes"] * 2 + ["no"] * 3
    lines: Rows = [{**row, "label": label} for row, label in zip(GOOD, labels, strict=False)] + GOOD[17:]
    made = report([source(tmp_path, lines)], None)
    assert made.labels == {"yes": 12, "no": 3, "Yes": 2}
    assert found(made)["label_synonyms"] == (2, (13,))
    assert found(made)["label_missing"] == (3, (18, 19, 20))
    assert "yes 70.6%" in next(finding.sentence for finding in made.findings if finding.id == "label_imbalance")
    assert label_synonyms({"maybe": 2, "Maybe.": 1}) == {"Maybe.": "maybe"}


TEMPLATES: dict[str, tuple[str, str]] = {
    "double_bos": ("{{ bos_token }}{{ bos_token }}" + CHATML, "Yes."),
    "eos_appended": ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", "Yes."),
    "template_refuses": ("{{ raise_exception('no') }}", "Yes."),
    "special_in_text": (CHATML, "Yes <|im_start|> no."),
    "answer_truncated": (CHATML, "Yes. " * 300),
    "one_sample_a_turn": (CHATML.replace("message['content']", "(message['content'] if loop.last else 'x')"), ""),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_faults_of_template_and_tokens(name: str, tmp_path: Path, make_tokenizer: MakeTokenizer) -> None:
    template, answer = TEMPLATES[name]
    turns = [
        ("user", "Is it?"),
        ("assistant", answer or "One."),
        *([("user", "And?"), ("assistant", "Two.")] if not answer else []),
    ]
    lines: Rows = [{"messages": [{"role": role, "content": content} for role, content in turns]}]
    renderer = Renderer(make_tokenizer(template), profile.Template())
    assert name in found(report([source(tmp_path, lines)], renderer, 120))


def test_a_tokenizer_without_eos_is_an_error(tmp_path: Path, make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("{% for m in messages %}{{ m.content }}\n{% endfor %}", eos="nothing of the kind")
    bare = type(tokenizer)(
        **{**{name: getattr(tokenizer, name) for name in tokenizer.__dataclass_fields__}, "eos_ids": ()}
    )
    made = report([source(tmp_path, list(GOOD))], Renderer(bare, profile.Template()))
    assert found(made)["no_eos"][0] == 20


def test_prompt_that_fills_the_window(tmp_path: Path, make_tokenizer: MakeTokenizer) -> None:
    lines: Rows = [*GOOD, {"question": "raised " * 300, "answer": "Yes."}]
    made = report([source(tmp_path, lines)], Renderer(make_tokenizer(CHATML), profile.Template()), 100)
    assert found(made)["prompt_fills_window"] == (1, (21,))
    assert made.lengths.over == 1


def test_every_check_has_its_sentence() -> None:
    ids = {*ROW_CHECKS, *RENDER_CHECKS, *get_args(Note), *DROPPED.values()}
    assert ids <= KNOWN.keys()


def test_a_scan_can_be_stopped(tmp_path: Path) -> None:
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 1

    with pytest.raises(Stopped):
        report([source(tmp_path, [*GOOD, *GOOD, *GOOD])], None, stopped=stop)


@pytest.mark.parametrize("limit", [None, 3, 100, 512, 5000])
def test_histogram_counts_every_row_once(limit: int | None) -> None:
    draw: Callable[..., np.ndarray] = np.random.default_rng(0).integers
    for high in (1, 2, 17, 400, 3000):
        lengths = draw(0, high, 500).astype(np.int32)
        edges, counts = histogram(lengths, limit)
        assert len(edges) == len(counts) + 1
        assert sum(counts) == 500
        assert len(counts) <= 40
