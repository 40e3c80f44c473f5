"""What a profile asks: the largest micro-batch that the data give, and nothing that does not change the memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.fit import asking, shapes
from engine.fit.facts import Facts
from engine.fit.question import Machine, Step
from engine.profile import Profile, changed

FACTS = Facts(shapes.config_of("Qwen/Qwen3-4B"), 450, 50, 0, 1024, 400.0, 256)
GPU = Machine((8, 9))


def profile(**settings: object) -> Profile:
    values = {"model": {"base": "Qwen/Qwen3-4B"}, "data": [{"source": "rows.jsonl"}], "training": {"packing": False}}
    return changed(Profile.model_validate(values), settings)


def key(asked: Profile, facts: Facts = FACTS) -> str:
    return asking.question(asked, facts, rows=4, checkpointing=True, machine=GPU).key


def step(asked: Profile, rows: int, facts: Facts = FACTS, machine: Machine = GPU) -> Step:
    return asking.question(asked, facts, rows=rows, checkpointing=False, machine=machine).step


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("training.learning_rate", 1e-5),
        ("training.seed", 8),
        ("training.epochs", 9.0),
        ("training.keep", 5),
        ("method.alpha", 64.0),
        ("method.rslora", True),
        ("method.dropout", 0.2),
        ("model.attention", "sdpa"),
        ("model.double_quantization", False),  # of a base that is not quantised
        ("method.virtual_tokens", 40),  # of a method that has none
        ("hardware.headroom_mib", 2048),
        ("evaluation.suites", ("retention",)),
    ],
)
def test_what_does_not_change_the_memory_asks_the_same(setting: str, value: object) -> None:
    assert key(profile(**{setting: value})) == key(profile())


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("method.rank", 8),
        ("method.dropout", 0.0),
        ("method.targets", ("q_proj",)),
        ("method.dora", True),
        ("method.name", "ia3"),
        ("method.modules_to_save", ("lm_head",)),
        ("model.dtype", "float16"),
        ("model.attention", "eager"),
        ("model.quantization", "int8"),
        ("training.optimizer", "adafactor"),
        ("training.objective", "dpo"),
        ("training.packing", True),
        ("template.max_tokens", 512),
    ],
)
def test_what_changes_the_memory_asks_something_else(setting: str, value: object) -> None:
    assert key(profile(**{setting: value})) != key(profile())


@pytest.mark.parametrize("double", [False, True])
def test_a_base_that_was_published_in_4_bits_asks_what_it_would_if_it_was_quantised_so(double: bool) -> None:
    packed = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    config = {**FACTS.config, "quantization_config": {**packed, "bnb_4bit_use_double_quant": double}}
    published = replace(FACTS, config=config)
    quantised = profile(**{"model.quantization": "nf4", "model.double_quantization": double})
    assert key(profile(), published) == key(quantised)
    assert published.shape == FACTS.shape


def test_who_wrote_a_config_does_not_matter_but_code_that_comes_with_it_does() -> None:
    other = {**FACTS.config, "transformers_version": "4.0", "_name_or_path": "/home/me", "torch_dtype": "float32"}
    assert key(profile(), replace(FACTS, config=other)) == key(profile())
    own_code = replace(FACTS, config={**FACTS.config, "auto_map": {"AutoModelForCausalLM": "modeling.Mine"}})
    trusted, not_trusted = (profile(**{"model.trust_remote_code": trust}) for trust in (True, False))
    assert key(trusted, own_code) != key(not_trusted, own_code)
    assert key(trusted) == key(not_trusted)


def test_padded_rows_are_the_longest_and_accumulate_until_the_batch_is_full() -> None:
    assert step(profile(), 4) == Step(4, 1024, 1024, False, False, True)
    assert step(profile(), 16) == Step(16, 1024, 4096, False, False, False)
    assert step(profile(**{"training.effective_batch": 2}), 16).rows == 2
    assert not step(profile(), 8, machine=Machine((8, 9), 2)).accumulates  # half of 16 is a rank's
    assert step(profile(), 8, replace(FACTS, train_rows=3)) == Step(3, 1024, 768, False, False, False)


def test_rows_of_a_pair_stay_together() -> None:
    pairs = replace(FACTS, rows_per_example=2)
    dpo = profile(**{"training.objective": "dpo"})
    assert [step(dpo, rows, pairs).rows for rows in (1, 2, 3, 4)] == [2, 2, 2, 4]


def test_packed_rows_are_as_long_as_they_may_be() -> None:
    packed = profile(**{"training.packing": True, "training.row_tokens": 4096})
    assert step(packed, 1) == Step(1, 4096, 1024, True, False, True)
    assert not step(packed, 2).accumulates  # sixteen examples of 400 tokens
    short = profile(**{"training.packing": True, "training.row_tokens": 256})
    assert (step(short, 2).rows, step(short, 2).tokens) == (1, 1024)  # an example that is longer has a row of its own
