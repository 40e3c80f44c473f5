"""Facts of a run's data under each objective: how many examples there are to step through, and how long their rows."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from engine.data.prepare import prepare
from engine.errors import Problem
from engine.fit.asking import question
from engine.fit.facts import look
from engine.fit.question import Machine
from engine.profile import Profile
from tests.engine.data.templates import QWEN3
from tests.tiny import make_llama, tiny_profile, write_rows


def rows_of(objective: str) -> list[dict[str, object]]:
    if objective == "pretrain":
        return [{"text": "The pitch is raised. " * (1 + 9 * (number % 5))} for number in range(40)]
    if objective == "dpo":
        return [
            {"prompt": f"Is {number} raised?", "chosen": "Yes. " * (1 + number % 9), "rejected": "No, not at all."}
            for number in range(40)
        ]
    turns = [[f"Is {number} raised?", "Yes.", "Why?", "So."][: 2 + 2 * (number % 2)] for number in range(40)]
    return [
        {
            "messages": [
                {"role": "user" if at % 2 == 0 else "assistant", "content": text} for at, text in enumerate(each)
            ]
        }
        for each in turns
    ]


@pytest.mark.parametrize("objective", ["sft", "pretrain", "dpo"])
def test_examples_and_lengths_are_those_of_what_training_reads(objective: str, tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base")
    (base / "chat_template.jinja").write_text(QWEN3.replace("<|im_start|>", "").replace("<|im_end|>", "<|end|>"))
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows_of(objective)))
    more = {"training.objective": objective, "template.max_tokens": 64 if objective == "pretrain" else "auto"}
    settings: Profile = tiny_profile(base, data, **{**more, "split.validation": 0})
    settings = settings.model_copy(update={"data": (settings.data[0].model_copy(update={"columns": {}}),)})
    facts = look(settings)
    train = prepare(settings, tmp_path / "run").train
    lengths = np.diff(train.starts)
    assert facts.train_rows == train.examples
    assert facts.rows_per_example == train.per_example
    assert facts.max_tokens == lengths.max()
    assert facts.mean_tokens == pytest.approx(fmean(lengths.tolist()))
    firsts = [
        int(train.supervised[start:end].argmax()) for start, end in zip(train.starts, train.starts[1:], strict=False)
    ]
    assert facts.max_tokens - max(firsts) <= facts.kept_tokens <= facts.max_tokens - min(firsts)
    if objective != "dpo":
        assert train.examples > 40  # conversations became samples, documents pieces


def test_a_limit_that_no_row_reaches_is_not_what_memory_is_asked_for(tiny_base: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", 40)
    settings = tiny_profile(tiny_base, data, **{"template.max_tokens": 512, "split.validation": 0})
    facts = look(settings)
    longest = int(np.diff(prepare(settings, tmp_path / "run").train.starts).max())
    assert (facts.max_tokens, facts.longest_tokens) == (512, longest)
    asked = question(settings, facts, rows=2, checkpointing=False, machine=Machine(None)).step
    assert (asked.rows, asked.tokens) == (2, longest)
    packed = tiny_profile(tiny_base, data, **{"training.packing": True, "training.row_tokens": 512})
    full = question(packed, facts, rows=2, checkpointing=False, machine=Machine(None)).step
    assert full.rows * full.tokens == 4 * longest  # an optimizer step has four examples and no more


def test_a_config_json_alone_is_enough_to_judge_a_run_by(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base")
    (base / "tokenizer.json").unlink()
    settings = tiny_profile(base, write_rows(tmp_path / "rows.jsonl", 40))
    facts = look(settings, guess=True)
    assert facts.train_rows and facts.shape
    assert facts.assumed == f"{base} has no tokenizer.json to train with: a token is taken for 4 letters."
    with pytest.raises(Problem, match=r"has no tokenizer\.json"):
        look(settings)
