"""What cannot be simulated is said, at once and in words: configurations that are not whole, sizes that nothing has, methods that do not go."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from engine.errors import Problem
from engine.fit.question import Machine, Question, Step
from engine.fit.simulation import building
from engine.fit.simulation.answer import answer
from tests.models import Family, make

STEP: Final = Step(2, 32, 16, packed=False, checkpointing=False, accumulates=False)
LORA: Final[dict[str, object]] = {"name": "lora", "rank": 4, "dropout": 0.0}
HUGE: Final = 10**9


def asked(
    folder: Path, family: Family = "llama", *, method: dict[str, object] | None = None, **model: object
) -> Question:
    config = json.loads((make(family, folder / family) / "config.json").read_text())
    settings = {"dtype": "float32", "quantization": "none", **model}
    return Question(config, settings, method or LORA, {}, STEP, Machine(None))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Question:
    return asked(tmp_path_factory.mktemp("good"))


def said(question: Question) -> Problem:
    with pytest.raises(Problem) as raised:
        answer(question)
    assert all((raised.value.what, raised.value.why, raised.value.do, raised.value.code))
    return raised.value


def changed(question: Question, **changes: object) -> Question:
    config = {**question.config, **changes}
    return replace(question, config={key: value for key, value in config.items() if value is not None})


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"model_type": None}, "does not name its architecture"),
        ({"model_type": "frobnicator"}, "frobnicator, which this transformers does not know"),
        ({"model_type": "t5"}, "T5Config"),
        ({"hidden_size": None}, "lacks hidden_size"),
        ({"hidden_size": None, "num_hidden_layers": None}, "lacks hidden_size and num_hidden_layers"),
        ({"hidden_size": "large"}, "expected int"),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"num_hidden_layers": -3}, "num_hidden_layers is -3"),
        ({"num_hidden_layers": HUGE}, "1 to 1,024"),
        ({"num_hidden_layers": HUGE, "model_type": "qwen3"}, "1 to 1,024"),  # whose configuration would list them all
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"vocab_size": HUGE}, "vocab_size is 1000000000"),
        ({"num_attention_heads": 5}, "multiple"),
        ({"num_key_value_heads": 3}, "4 attention heads cannot share 3"),
        ({"hidden_act": "nonsense"}, "nonsense"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "gptq"),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(value),
)
def test_a_configuration_that_is_not_whole_or_not_known_is_refused(
    good: Question, changes: dict[str, object], word: str
) -> None:
    problem = said(changed(good, **changes))
    assert word in problem.why and problem.code == "model"


def test_an_empty_configuration_is_refused(good: Question) -> None:
    assert "does not name its architecture" in said(replace(good, config={})).why


def test_a_model_with_code_of_its_own_is_refused_unless_transformers_knows_it(good: Question) -> None:
    auto_map = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnModel"}
    assert "Python code of its own" in said(changed(good, model_type="own", auto_map=auto_map)).why
    settings = building.profile_of(good).model
    known = building.configuration(changed(good, auto_map=auto_map).config, settings)
    assert type(known).__name__ == "LlamaConfig"


@pytest.mark.parametrize(
    "step",
    [
        replace(STEP, rows=0),
        replace(STEP, rows=HUGE),
        replace(STEP, tokens=0),
        replace(STEP, tokens=1),
        replace(STEP, tokens=HUGE),
        replace(STEP, rows=4096, tokens=2**20),
        replace(STEP, supervised=HUGE),
        replace(STEP, rows=-1),
    ],
)
def test_a_step_that_is_empty_or_that_nothing_holds_is_refused(good: Question, step: Step) -> None:
    assert said(replace(good, step=step)).code == "size"


@pytest.mark.parametrize("ranks", [0, -1, HUGE])
def test_ranks_that_cannot_be_are_refused(good: Question, ranks: int) -> None:
    assert said(replace(good, machine=Machine(None, ranks))).code == "size"


@pytest.mark.parametrize(
    ("part", "values", "word"),
    [
        ("method", {**LORA, "rank": 0}, "greater than or equal to 1"),
        ("method", {**LORA, "rank": HUGE}, "less than or equal"),
        ("training", {"optimizer": "sgd"}, "adafactor"),
    ],
)
def test_a_value_that_no_profile_has_is_refused(
    good: Question, part: str, values: dict[str, object], word: str
) -> None:
    assert word in said(replace(good, **{part: values})).why  # type: ignore[arg-type]


def test_a_method_that_the_architecture_lacks_is_refused_as_a_run_would_be(tmp_path: Path) -> None:
    prefix = asked(tmp_path, "qwen3_5", method={"name": "prefix", "virtual_tokens": 8})
    assert "a state in place of keys and values" in said(prefix).why
    assert "experts" in said(asked(tmp_path, "qwen3_moe", method={**LORA, "dora": True})).what
    assert "no module nope" in said(asked(tmp_path, method={**LORA, "targets": ("nope",)})).what


def test_attention_by_a_kernel_that_is_not_here_is_refused(tmp_path: Path) -> None:
    problem = said(asked(tmp_path, "gpt_oss", attention="flash", dtype="bfloat16"))
    assert problem.code == "model"
    assert "kernels-community" in problem.why
