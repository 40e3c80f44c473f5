"""What training reads: every row in its part, tokens as rendered, kept and read back; the published data as published."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from engine import profile
from engine.data.prepare import auto_max_tokens, load, prepare, prompt_hash, training_prompts
from engine.data.render import Renderer
from engine.data.tokenizer import load_tokenizer
from engine.errors import Problem
from engine.evaluate.suites import read_suite
from engine.profile import Profile
from tests.engine.data.templates import THINKS
from tests.tiny import tiny_profile, write_rows

PUBMEDQA = {
    "instruction": "QUESTION",
    "input": "CONTEXTS",
    "response": "{final_decision}. {LONG_ANSWER}",
    "label": "final_decision",
}


def tiny(base: Path, folder: Path, rows: int = 40, **settings: object) -> Profile:
    return tiny_profile(base, write_rows(folder / "rows.jsonl", rows), **settings)


def test_tokens_are_as_rendered_and_read_back_the_same(tiny_base: Path, tmp_path: Path) -> None:
    settings = tiny(tiny_base, tmp_path, **{"split.test": 0.2, "split.stratify": "label"})
    told: list[tuple[int, int]] = []
    made = prepare(settings, tmp_path / "run", lambda done, total: told.append((done, total)))
    assert (len(made.train), len(made.validation), made.test_rows) == (24, 8, 8)
    assert told[-1] == (40, 40)
    back = load(tmp_path / "run")
    for one, other in ((made.train, back.train), (made.validation, back.validation)):
        assert one.row_ids == other.row_ids
        assert all(
            np.array_equal(getattr(one, name), getattr(other, name))
            and getattr(one, name).dtype == getattr(other, name).dtype
            for name in ("ids", "supervised", "starts")
        )
    assert (back.fingerprint, back.max_tokens, back.findings) == (made.fingerprint, made.max_tokens, made.findings)
    tokenizer = load_tokenizer(str(tiny_base))
    row = int(made.train.row_ids[3].split(":")[1]) - 1
    first = json.loads((tmp_path / "rows.jsonl").read_text().splitlines()[row])
    ids = made.train.ids[made.train.starts[3] : made.train.starts[4]]
    assert tokenizer.decode(ids.tolist()) == (
        f"<|user|>\n{first['instruction']}\n\n{first['input']}<|end|>\n<|assistant|>\n{first['output']}<|end|>\n"
    )


def test_test_suite_asks_what_training_asks_and_is_refused_for_no_row_of_it(tiny_base: Path, tmp_path: Path) -> None:
    settings = tiny(
        tiny_base, tmp_path, **{"split.test": 0.25, "template.max_tokens": 44, "template.system": "Be brief."}
    )
    made = prepare(settings, tmp_path / "run")
    assert any(finding.id == "input_cut" for finding in made.findings)
    suite = read_suite(tmp_path / "run" / "suites" / "test.jsonl")
    assert len(suite.items) == made.test_rows == 10
    renderer = Renderer(load_tokenizer(str(tiny_base)), settings.template, "responses", 44)
    ids, hashes = training_prompts(tmp_path / "run")
    for item in suite.items:
        assert item.choices == ("normal", "raised")
        assert item.answer[0] in item.choices
        assert item.row not in ids
        assert prompt_hash(item.prompt) not in hashes
        assert len(renderer.tokenizer.encode(item.prompt)) < 44
    assert len(ids) == len(made.train)


def test_kept_files_are_private_and_nothing_else_is_left(tiny_base: Path, tmp_path: Path) -> None:
    prepare(tiny(tiny_base, tmp_path), tmp_path / "run")
    files = sorted((tmp_path / "run" / "prepared").iterdir())
    assert [file.name for file in files] == ["rows.json", "train.safetensors", "validation.safetensors"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_published_pubmedqa(tiny_base: Path, tmp_path: Path, shared_data: Path) -> None:
    """Rows and majority class as published with the data set (1,000 labelled, 500 of them the official test set)."""
    folder = shared_data / "pubmedqa"
    data = profile.Data(source=str(folder / "ori_pqal.json"), columns=PUBMEDQA)
    split = profile.Split(test=str(folder / "test_ground_truth.json"), validation=0.1, stratify="final_decision")
    settings = tiny(tiny_base, tmp_path).model_copy(update={"data": (data,), "split": split})
    settings = settings.model_copy(update={"template": profile.Template(max_tokens=2600)})
    made = prepare(settings, tmp_path / "run")
    assert (len(made.train), len(made.validation), made.test_rows) == (450, 50, 500)
    truth = json.loads((folder / "test_ground_truth.json").read_text())
    items = read_suite(tmp_path / "run" / "suites" / "test.jsonl").items
    assert {item.row: item.answer[0] for item in items} == truth
    assert max(Counter(item.answer[0] for item in items).values()) / len(items) == 0.552
    assert {item.choices for item in items} == {("maybe", "no", "yes")}
    assert not truth.keys() & set(made.train.row_ids + made.validation.row_ids)


def test_weights_repeat_rows_of_the_heavier_source(tiny_base: Path, tmp_path: Path) -> None:
    settings = tiny(tiny_base, tmp_path, 20, **{"split.validation": 0})
    other = write_rows(tmp_path / "more.jsonl", 40)
    heavy = settings.data[0].model_copy(update={"weight": 3.0})
    light = settings.data[0].model_copy(update={"source": str(other), "weight": 1.5})
    made = prepare(settings.model_copy(update={"data": (heavy, light)}), tmp_path / "run")
    seen = Counter(Counter(name.split(":")[0] for name in made.train.row_ids))
    assert seen == {"rows.jsonl": 60, "more.jsonl": 60}
    assert set(Counter(made.train.row_ids).values()) == {1, 2, 3}


def test_auto_max_tokens_is_a_length_of_the_data_within_the_model(tiny_base: Path, tmp_path: Path) -> None:
    rows = [
        {"instruction": "Read.", "input": " pitch" * n, "output": f"It is {n}.", "label": "y"} for n in range(1, 204)
    ]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = tiny_profile(tiny_base, data, **{"split.validation": 0, "template.max_tokens": 512})
    tokenizer = load_tokenizer(str(tiny_base))
    lengths = np.sort(np.diff(prepare(settings, tmp_path / "run").train.starts))
    # Of 203 lengths the 201st: two are longer.
    assert lengths[199] < lengths[200] < lengths[201]
    assert auto_max_tokens(settings, tokenizer) == lengths[200]
    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps({"instruction": "pitch " * 2000, "input": "", "output": "x", "label": "y"}))
    settings = settings.model_copy(update={"data": (profile.Data(source=str(long)),)})
    assert auto_max_tokens(settings, tokenizer) == tokenizer.max_length == 512


def test_a_broken_row_stops_training_and_leaves_nothing_half_done(tiny_base: Path, tmp_path: Path) -> None:
    settings = tiny(tiny_base, tmp_path)
    path = tmp_path / "rows.jsonl"
    lines = path.read_text().splitlines()
    lines[6] = lines[6][:-5]
    path.write_text("\n".join(lines))
    with pytest.raises(Problem, match=r"rows.jsonl:7"):
        prepare(settings, tmp_path / "run")
    assert not (tmp_path / "run" / "prepared").exists()
    with pytest.raises(Problem, match="cannot be read"):
        load(tmp_path / "run")


def test_nothing_left_to_train_on_says_why(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(Problem, match="No row is left") as caught:
        prepare(tiny(tiny_base, tmp_path, **{"template.max_tokens": 16}), tmp_path / "run")
    assert "left out" in caught.value.why and "max_tokens" in caught.value.do
    rows = tmp_path / "unanswered.jsonl"
    rows.write_text(json.dumps({"messages": [{"role": "user", "content": "pitch?"}]}) + "\n")
    unanswered = tiny(tiny_base, tmp_path, **{"split.validation": 0})
    with pytest.raises(Problem, match="No row is left") as caught:
        prepare(unanswered.model_copy(update={"data": (profile.Data(source=str(rows)),)}), tmp_path / "other")
    assert "no response" in caught.value.why and "max_tokens" not in caught.value.do


def test_test_ids_that_are_in_no_row(tiny_base: Path, tmp_path: Path) -> None:
    ids = tmp_path / "ids.json"
    ids.write_text('["x", "rows.jsonl:3"]')
    made = prepare(tiny(tiny_base, tmp_path, **{"split.test": str(ids)}), tmp_path / "run")
    assert made.test_rows == 1
    assert [finding.count for finding in made.findings if finding.id == "unknown_test_ids"] == [1]
    ids.write_text('["x"]')
    with pytest.raises(Problem, match="None of the 1 test ids is in the data"):
        prepare(tiny(tiny_base, tmp_path, **{"split.test": str(ids)}), tmp_path / "other")


def test_unknown_stratify_column(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(Problem, match="no column lable - did you mean label"):
        prepare(tiny(tiny_base, tmp_path, **{"split.stratify": "lable"}), tmp_path / "run")


def test_every_response_of_a_rewriting_template_is_a_row_of_its_example(tiny_base: Path, tmp_path: Path) -> None:
    turns = [
        ("user", "Is it?"),
        ("assistant", "<think>\nHm.\n</think>\n\nYes."),
        ("user", "Why?"),
        ("assistant", "So."),
    ]
    messages = [{"role": role, "content": content} for role, content in turns]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"messages": messages, "id": f"r{number}"}) + "\n" for number in range(3)))
    own = tmp_path / "own.jinja"
    own.write_text(THINKS.replace("<|im_end|>", "<|end|>"))
    settings = tiny_profile(tiny_base, data, **{"template.name": str(own), "split.validation": 0})
    settings = settings.model_copy(update={"data": (profile.Data(source=str(data)),)})
    made = prepare(settings, tmp_path / "run")
    assert made.train.row_ids == ("r0", "r0", "r1", "r1", "r2", "r2")
    assert (made.train.per_example, made.train.examples) == (1, 6)
    assert {finding.id: finding.count for finding in made.findings} == {"one_sample_a_turn": 3}


def test_preparing_holds_little_more_than_the_tokens(tiny_base: Path, tmp_path: Path) -> None:
    """Five bytes a token and the writing of them, not a Python object for each: 100,000 rows have to go through a laptop."""
    settings = tiny(tiny_base, tmp_path, 40, **{"split.validation": 0, "template.max_tokens": 512})
    long = {"instruction": "Read.", "input": "pitch voice " * 150, "output": "It is raised.", "label": "raised"}
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({**long, "id": n}) + "\n" for n in range(200)))
    prepare(settings, tmp_path / "before")  # templates and libraries loaded
    tracemalloc.start()
    made = prepare(settings, tmp_path / "run")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(made.train) == 200
    assert peak < 3 * 5 * len(made.train.ids) + 300_000
