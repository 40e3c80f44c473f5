"""The views of a row that is more than a question and its response: samples, tools, pairs, documents."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.data.opened import Opened, look, open_data, with_base
from engine.data.tokenizer import load_tokenizer
from screens.data.rows import row_cells
from screens.data.summary import title
from screens.data.views import View, counted, drawn, look_at, plain
from tests.engine.data import templates
from tests.engine.data.conftest import write_tokenizer
from tests.engine.data.test_tools import TOOL, TURNS

CHAT = [
    {"role": "user", "content": "Is it?"},
    {"role": "assistant", "content": "One."},
    {"role": "user", "content": "And?"},
    {"role": "assistant", "content": "Two."},
]


def opened(folder: Path, row: dict[str, object], template: str = templates.QWEN3) -> Opened:
    path = folder / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    base = write_tokenizer(folder / "base", template)
    assert load_tokenizer(str(base)).chat_template == template
    return with_base(open_data(str(path)), str(base))


@pytest.mark.parametrize("view", ["Rendered", "Tokens", "Labels"])
def test_each_response_of_a_rewriting_template_is_a_sample_under_its_name(view: View, tmp_path: Path) -> None:
    record = look_at(opened(tmp_path, {"messages": CHAT}), 0)
    text = drawn(record, view).plain
    assert text.index("turn 1 of 2") < text.index("turn 2 of 2")
    said = counted(record).plain
    assert "2 samples" in said
    assert "a sample each response" in said
    supervised = sum(sum(rendered.supervised) for rendered in record.samples)
    assert f"supervised {supervised} of {sum(len(rendered.ids) for rendered in record.samples)}" in said


def test_a_single_sample_has_no_name(tmp_path: Path) -> None:
    record = look_at(opened(tmp_path, {"messages": CHAT}, templates.CHATML), 0)
    assert "turn" not in drawn(record, "Rendered").plain
    assert "samples" not in counted(record).plain


def test_tools_and_calls_are_mapped_and_shown(tmp_path: Path) -> None:
    record = look_at(opened(tmp_path, {"messages": TURNS, "tools": [TOOL]}), 0)
    text = drawn(record, "Mapped").plain
    assert '"name": "jitter", "description"' in text
    assert '"arguments": {"file": "é.wav", "n": 3}' in text
    assert "\ntool\n" in text
    assert '{"percent": 1.5}' in plain(record, "Mapped")
    tokens = drawn(record, "Tokens")
    shown = "".join(tokens.plain[span.start : span.end] for span in tokens.spans if "underline" in str(span.style))
    assert "tool_call" in shown
    assert "1.5" not in shown


def test_a_pair_is_shown_as_chosen_and_rejected(tmp_path: Path) -> None:
    record = look_at(opened(tmp_path, {"prompt": "Is it?", "chosen": "Yes.", "rejected": "No."}), 0)
    mapped = drawn(record, "Mapped").plain
    assert mapped.index("chosen assistant") < mapped.index("rejected assistant")
    rendered = drawn(record, "Rendered").plain
    assert rendered.index("── chosen") < rendered.index("── rejected")


def test_a_document_is_shown_and_found_by_how_it_begins(tmp_path: Path) -> None:
    data = opened(tmp_path, {"text": "The pitch is raised."})
    record = look_at(data, 0)
    assert "The pitch is raised." in drawn(record, "Mapped").plain
    assert plain(record, "Rendered") == "The pitch is raised."
    assert row_cells(data, 0)[-1] == "The pitch is raised."
    assert all(rendered.dropped == "" for rendered in record.samples)


def test_what_a_pair_is_left_out_for_is_said(tmp_path: Path) -> None:
    record = look_at(opened(tmp_path, {"prompt": "Is it?", "chosen": "Yes.", "rejected": "Yes."}), 0)
    assert counted(record).plain == "left out: identical responses"


def test_the_shares_of_a_mixture_stand_in_the_title(tmp_path: Path) -> None:
    for name, rows in (("a", 30), ("b", 10)):
        lines = (json.dumps({"question": f"Is {name} {number}?", "answer": "Yes."}) for number in range(rows))
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    base = write_tokenizer(tmp_path / "base", templates.CHATML)
    profile = tmp_path / "mixed.toml"
    profile.write_text(
        f'[model]\nbase = "{base}"\n[split]\nvalidation = 0\n'
        '[[data]]\nsource = "a.jsonl"\nweight = 0.5\n[[data]]\nsource = "b.jsonl"\nweight = 2\n'
    )
    data = open_data(str(profile))
    looked = look(data, lambda done, total: None, lambda: False)
    assert "an epoch a.jsonl 43%, b.jsonl 57%" in title(data, looked).plain
