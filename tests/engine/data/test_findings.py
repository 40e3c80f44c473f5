"""Bad input of every shape of data: each fault is found in its row, in no other, and says what becomes of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine import profile
from engine.data.finding import KNOWN
from engine.data.mapped import open_mapped
from engine.data.mapping import Objective, likely_objective
from engine.data.report import DataReport, summarise
from engine.data.sampler import sampler
from engine.data.scan import scan
from engine.data.tokenizer import load_tokenizer
from tests.engine.data import templates
from tests.engine.data.conftest import write_tokenizer

Rows = Sequence[dict[str, object]]
TOOL = {"type": "function", "function": {"name": "jitter", "parameters": {"type": "object", "properties": {}}}}


def report(
    folder: Path,
    rows: Rows,
    objective: Objective = "sft",
    *,
    template: str = templates.CHATML,
    limit: int = 200,
    eos: str = "<|im_end|>",
    pad: str = "<pad>",
) -> DataReport:
    """What is found in the rows, as a model with this template sees them."""
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = load_tokenizer(str(write_tokenizer(folder / "base", template, eos=eos, pad=pad)))
    settings = profile.Template()
    making = sampler(tokenizer, settings, profile.Training(objective=objective))
    sources = [open_mapped(profile.Data(source=str(path)), settings, objective)]
    return summarise(sources, scan(sources, making, limit))


def found(made: DataReport) -> dict[str, tuple[int, tuple[int, ...]]]:
    return {finding.id: (finding.count, finding.rows) for finding in made.findings}


def said(*turns: tuple[str, str]) -> dict[str, object]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


CHATS = [said(("user", f"Is recording {n} raised?"), ("assistant", f"Yes, by {n}.")) for n in range(12)]
PAIRS = [
    {"prompt": f"Is {n} raised?", "chosen": f"Yes, by {n}.", "rejected": "No, not at all, by no means."}
    for n in range(12)
]
TEXTS = [{"text": f"The pitch of recording {n} is raised."} for n in range(12)]


@pytest.mark.parametrize(
    ("rows", "objective", "shape"),
    [(CHATS, "sft", "messages"), (PAIRS, "dpo", "chosen+rejected"), (TEXTS, "pretrain", "text")],
)
def test_clean_data_of_every_shape_have_no_findings(
    rows: Rows, objective: Objective, shape: str, tmp_path: Path
) -> None:
    made = report(tmp_path, rows, objective)
    assert made.findings == ()
    assert made.shape == shape
    assert made.lengths.supervised > 0
    assert likely_objective(rows[0]) == objective


@pytest.mark.parametrize(
    ("row", "ids"),
    [
        (said(("user", "Is it?")), {"no_response"}),
        (said(("user", "Is it?"), ("assistant", " ")), {"empty_output", "response_empty"}),
        (said(("user", "Is it?"), ("assistant", "Yes."), ("assistant", "No.")), {"role_order"}),
        (said(("assistant", "Hello."), ("user", "Is it?"), ("assistant", "Yes.")), {"role_order"}),
        (said(("user", "Is it?"), ("assistant", "Yes. " * 400)), {"answer_truncated", "length_outliers"}),
        (said(("user", "raised? " * 400), ("assistant", "Yes.")), {"prompt_fills_window", "length_outliers"}),
        (
            said(("user", "Is it?"), ("assistant", "Yes."), ("user", "And? " * 400), ("assistant", "No.")),
            {"turns_cut", "length_outliers"},
        ),
        ({**said(("user", "Is it?"), ("assistant", "Yes.")), "tools": [TOOL]}, {"tools_ignored", "late_keys"}),
        (said(("usr", "Is it?")), {"bad_conversation"}),
    ],
)
def test_a_conversation_with_one_fault(row: dict[str, object], ids: set[str], tmp_path: Path) -> None:
    made = found(report(tmp_path, [*CHATS, row]))
    assert made.keys() - {"late_keys"} == ids - {"late_keys"}
    assert all(13 in rows for _, rows in made.values())


def test_a_tool_call_that_the_template_does_not_write(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "jitter", "arguments": "{}"}}]}
    made = report(tmp_path, [*CHATS, {"messages": [{"role": "user", "content": "Is it?"}, call]}])
    assert found(made) == {"tool_call_not_written": (1, (13,))}
    assert made.findings[0].severity == "error"


@pytest.mark.parametrize("where", ["tools", "calls"])
def test_nulls_that_a_table_added_to_tools_and_calls(where: str, tmp_path: Path) -> None:
    arguments = {"file": "a.wav", "other": None} if where == "calls" else {"file": "a.wav"}
    call = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": "jitter", "arguments": arguments}}],
    }
    tool = {**TOOL, "other": None} if where == "tools" else TOOL
    good = said(("user", "Is it raised?"), ("assistant", "Yes."))
    bad = {"messages": [{"role": "user", "content": "Is it?"}, {**call, "name": None}]}
    rows = [{**good, "tools": [TOOL]}, {**bad, "tools": [tool]}]
    assert found(report(tmp_path, rows, template=templates.QWEN3, limit=2000)) == {"phantom_nulls": (1, (2,))}


@pytest.mark.parametrize("silent", ["", "{% else %}{{ '<|im_end|>' }}"])
def test_a_template_that_writes_no_responses_is_an_error(silent: str, tmp_path: Path) -> None:
    template = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}" + silent + "{% endif %}{% endfor %}"
    made = report(tmp_path, CHATS, template=template)
    assert found(made) == {"response_not_written": (12, tuple(range(1, 13)))}
    assert made.findings[0].severity == "error"


def test_roles_that_the_template_refuses(tmp_path: Path) -> None:
    row = said(("user", "Is it?"), ("assistant", "Yes."), ("assistant", "No."))
    made = found(report(tmp_path, [*CHATS, row], template=templates.GEMMA3))
    assert made == {"template_refuses": (1, (13,)), "role_order": (1, (13,))}


def test_history_that_is_rewritten_is_said_and_nothing_is_masked(tmp_path: Path) -> None:
    row = said(("user", "Is it?"), ("assistant", "Yes."), ("user", "Why?"), ("assistant", "So."))
    made = report(tmp_path, [*CHATS, row], template=templates.QWEN3)
    assert found(made) == {"one_sample_a_turn": (1, (13,))}
    assert made.findings[0].severity == "info"


@pytest.mark.parametrize(
    ("row", "ids"),
    [
        ({"prompt": "Is it?", "chosen": "Yes.", "rejected": "Yes."}, {"identical_responses"}),
        ({"prompt": "Is it?", "chosen": "Yes.", "rejected": " "}, {"response_empty"}),
        ({"prompt": "Is it?", "chosen": "Yes.", "rejected": "No. " * 400}, {"answer_truncated", "length_outliers"}),
        ({"prompt": "", "chosen": "Yes.", "rejected": "No."}, {"bad_conversation"}),
    ],
)
def test_a_pair_with_one_fault(row: dict[str, object], ids: set[str], tmp_path: Path) -> None:
    made = found(report(tmp_path, [*PAIRS, row], "dpo"))
    assert made.keys() == ids
    assert all(rows == (13,) for _, rows in made.values())


def test_chosen_responses_that_are_mostly_longer(tmp_path: Path) -> None:
    rows = [{**row, "chosen": str(row["chosen"]) * 6} for row in PAIRS]
    assert found(report(tmp_path, rows, "dpo"))["length_bias"][0] == 12


def test_documents_with_faults(tmp_path: Path) -> None:
    rows = [*TEXTS, {"text": "\n"}, {"text": "A long one. " * 200}]
    made = found(report(tmp_path, rows, "pretrain"))
    assert made == {"empty_text": (1, (13,)), "cut_in_pieces": (1, (14,)), "length_outliers": (1, (14,))}


def test_pad_equals_eos_is_said_once(tmp_path: Path) -> None:
    made = report(tmp_path, CHATS, pad="<|im_end|>")
    assert [finding.sentence.split(":")[0] for finding in made.findings] == ["1 tokenizer"]
    assert found(made) == {"pad_is_eos": (1, ())}


@pytest.mark.parametrize("objective", ["sft", "pretrain"])
def test_no_eos_is_an_error_of_every_row(objective: Objective, tmp_path: Path) -> None:
    rows = CHATS if objective == "sft" else TEXTS
    bare = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    folder = tmp_path / "base"
    write_tokenizer(folder, bare, eos="none of the kind")
    (folder / "config.json").write_text("{}")
    tokenizer = load_tokenizer(str(folder))
    assert tokenizer.eos_ids == ()
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    making = sampler(tokenizer, profile.Template(), profile.Training(objective=objective))
    sources = [open_mapped(profile.Data(source=str(tmp_path / "rows.jsonl")), profile.Template(), objective)]
    made = found(summarise(sources, scan(sources, making, 200)))
    assert made["no_eos"][0] == 12
    assert KNOWN["no_eos"][0] == "error"
