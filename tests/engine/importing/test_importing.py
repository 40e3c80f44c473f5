"""Configurations of other trainers: each key is told of once, what matters arrives, and nothing strange gets further than a Problem."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import Problem
from engine.importing import Imported, imported, looks_foreign
from engine.importing.axolotl import NEEDLESS as AXOLOTL
from engine.importing.llama_factory import NEEDLESS as LLAMA_FACTORY
from engine.importing.trl import NEEDLESS as TRL
from engine.profile import Profile, flat
from engine.profile_file import parse

AXOLOTL_QLORA: Final = """
base_model: NousResearch/Meta-Llama-3-8B
model_type: AutoModelForCausalLM
load_in_8bit: false
load_in_4bit: true
datasets:
  - path: tatsu-lab/alpaca
    type: alpaca
    shards: 10
dataset_prepared_path:
val_set_size: 0.05
output_dir: ./outputs/qlora-out
adapter: qlora
sequence_len: 4096
sample_packing: true
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_linear: true
gradient_accumulation_steps: 4
micro_batch_size: 2
num_epochs: 4
optimizer: paged_adamw_32bit
lr_scheduler: cosine
learning_rate: 2e-4
train_on_inputs: false
bf16: auto
fp16:
gradient_checkpointing: true
flash_attention: true
warmup_steps: 10
special_tokens:
  pad_token: "<|end_of_text|>"
made_up: 3
"""
LLAMA_FACTORY_SFT: Final = """
model_name_or_path: meta-llama/Meta-Llama-3-8B-Instruct
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: q_proj,v_proj
dataset: mine
dataset_dir: data
template: llama3
cutoff_len: 2048
max_samples: 1000
hf_hub_token: hf_secret
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 3.0
warmup_ratio: 0.1
bf16: true
"""
TRL_SFT: Final = """
model_name_or_path: Qwen/Qwen2.5-0.5B
dataset_name: trl-lib/Capybara
dataset_train_split: train[:10%]
use_peft: true
lora_r: 32
load_in_4bit: true
max_steps: 100
warmup_steps: 10
lr_scheduler_type: polynomial
report_to: [wandb, comet_ml]
"""


def read(tmp_path: Path, text: str, name: str = "theirs.yaml", kind: str | None = None) -> tuple[Imported, Profile]:
    """What is made of a file, and its profile."""
    (tmp_path / name).write_text(text)
    found = imported(tmp_path / name, kind)
    return found, parse(found.text, tmp_path / "ours.toml")


def keys(found: Imported, how: str) -> set[str]:
    """The keys of which this became."""
    return {line.key for line in found.lines if line.how == how}


def test_axolotl(tmp_path: Path) -> None:
    found, profile = read(tmp_path, AXOLOTL_QLORA)
    assert found.kind == "axolotl"
    assert (profile.model.base, profile.model.quantization, profile.model.attention) == (
        "NousResearch/Meta-Llama-3-8B",
        "nf4",
        "flash",
    )
    assert (profile.method.name, profile.method.rank, profile.method.alpha) == ("lora", 32, 16)
    assert (profile.training.effective_batch, profile.training.micro_batch) == (8, 2)
    assert (profile.training.learning_rate, profile.training.epochs, profile.training.weight_decay) == (2e-4, 4, 0)
    assert (profile.template.name, profile.template.max_tokens, profile.template.too_long) == ("alpaca", 4096, "drop")
    assert profile.data[0].columns == {"instruction": "instruction", "input": "input", "response": "output"}
    assert keys(found, "left") == {"warmup_steps", "special_tokens", "made_up", "datasets.0.shards"}
    assert keys(found, "changed") == {"gradient_accumulation_steps", "optimizer"}


def test_llama_factory_with_its_data_sets(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.json").write_text("[]")
    described = {
        "mine": {
            "file_name": "mine.json",
            "formatting": "sharegpt",
            "columns": {"messages": "talks", "images": "pictures"},
        }
    }
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(described))
    found, profile = read(tmp_path, LLAMA_FACTORY_SFT)
    assert found.kind == "llama-factory"
    assert (profile.data[0].source, profile.data[0].columns) == (
        str(tmp_path / "data" / "mine.json"),
        {"messages": "talks"},
    )
    assert (profile.method.targets, profile.method.rank, profile.method.alpha) == (("q_proj", "v_proj"), 8, 16)
    assert (profile.training.effective_batch, profile.training.checkpoint_activations) == (8, True)
    assert profile.split.validation == 0
    assert {"template", "cutoff_len", "dataset.mine.columns"} <= keys(found, "changed")
    assert keys(found, "left") == {"max_samples"}
    assert "hf_secret" not in found.text + str(found.lines)


def test_llama_factory_without_them_says_which_are_missing(tmp_path: Path) -> None:
    found, profile = read(tmp_path, LLAMA_FACTORY_SFT)
    assert profile.data[0].source == "mine"
    (line,) = [line for line in found.lines if line.key == "dataset"]
    assert line.how == "left" and "dataset_info.json does not describe mine" in line.why


def test_trl_and_what_it_does_without_a_key(tmp_path: Path) -> None:
    found, profile = read(tmp_path, TRL_SFT)
    assert found.kind == "trl"
    assert (profile.training.max_steps, profile.training.warmup_ratio, profile.training.schedule) == (
        100,
        0.1,
        "linear",
    )
    assert (profile.method.targets, profile.model.double_quantization) == (("q_proj", "v_proj"), False)
    assert (profile.training.learning_rate, profile.template.max_tokens, profile.training.effective_batch) == (
        2e-5,
        1024,
        8,
    )
    assert (profile.data[0].split, profile.training.mirror) == ("train", ("wandb",))
    assert {"dataset_train_split", "lr_scheduler_type"} <= keys(found, "changed")


def test_the_handbooks_mixtures_of_data_sets(tmp_path: Path) -> None:
    mixture = "{datasets: [{id: a/b, config: c, split: train_sft, columns: [messages], weight: 0.5}, {id: d/e}], test_split_size: 0.1, seed: 0}"
    found, profile = read(
        tmp_path, f"model_name_or_path: m\nmax_length: 8192\neval_strategy: epoch\ndataset_mixture: {mixture}"
    )
    assert [(data.source, data.subset, data.split, data.weight) for data in profile.data] == [
        ("a/b", "c", "train_sft", 0.5),
        ("d/e", "", "train", 1.0),
    ]
    assert profile.split.validation == 0.1 and keys(found, "left") == set()
    mixer = "dataset_mixer: {a/b: 1.0, d/e: 0.25}\ndataset_splits: [train_prefs, test_prefs]"
    found, profile = read(tmp_path, f"model_name_or_path: m\nbeta: 0.01\nmax_length: 1024\n{mixer}")
    assert [(data.source, data.split, data.weight) for data in profile.data] == [
        ("a/b", "train_prefs", 1),
        ("d/e", "train_prefs", 0.25),
    ]
    assert keys(found, "changed") >= {"dataset_splits"}


def test_preferences_are_told_from_what_only_they_have(tmp_path: Path) -> None:
    _, profile = read(tmp_path, "model_name_or_path: m\ndataset_name: d\nbeta: 0.2\nmax_length: 512")
    assert (profile.training.objective, profile.training.beta) == ("dpo", 0.2)
    _, profile = read(
        tmp_path, "model_name_or_path: m\nstage: dpo\npref_loss: orpo\npref_beta: 0.3\ndataset: d\ntemplate: x"
    )
    assert (profile.training.objective, profile.training.beta) == ("orpo", 0.3)
    _, profile = read(
        tmp_path,
        "base_model: m\nrl: dpo\nrl_beta: 0.3\nlearning_rate: 1e-6\ndatasets:\n- {path: d, type: {field_prompt: q}}",
    )
    assert (profile.training.objective, profile.data[0].columns) == ("dpo", {"instruction": "q"})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("base_model: m\nrl: grpo", "rl: grpo"),
        ("model_name_or_path: m\nstage: ppo", "stage: ppo"),
        ("model_name_or_path: m\nstage: dpo\npref_loss: simpo", "pref_loss: simpo"),
        ("model_name_or_path: m\nstage: sft\nfinetuning_type: freeze", "freeze"),
        ("model_name_or_path: m\ndataset_name: d\nloss_type: ipo", "loss_type: ipo"),
        ("base_model: m\nadapter: llama-adapter", "llama-adapter"),
        ("colour: red", "does not say which program"),
        ("base_model: m\nstage: sft", "does not say which program"),
        ("- a\n- b", "no configuration"),
        ("a: [1, 2", "neither YAML nor JSON"),
        ("!!python/object/apply:os.system ['true']", "neither YAML nor JSON"),
        ("base_model: &a [*a]", "more than 10,000 values"),
        ("x0: &x0 [1,1,1,1,1,1,1,1,1,1]\n" + "\n".join(f"x{n}: &x{n} [{','.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 9)), "more than 10,000"),
        ("a: 1\n" * 300_000, "too large"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_profile_is_refused(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(Problem) as caught:
        read(tmp_path, text)
    assert says in str(caught.value)


def test_the_arguments_of_a_trainer_lack_base_and_data(tmp_path: Path) -> None:
    (tmp_path / "training_args.json").write_text(
        json.dumps({"output_dir": "out", "learning_rate": 3e-5, "num_train_epochs": 2})
    )
    found = imported(tmp_path / "training_args.json")
    assert (found.kind, 'base = ""' in found.text, "epochs = 2" in found.text) == ("trl", True, True)
    with pytest.raises(Problem, match=r"model\.base"):
        parse(found.text, tmp_path / "x.toml")


def test_what_steers_a_terminal_is_not_carried_into_the_file(tmp_path: Path) -> None:
    found, profile = read(
        tmp_path,
        'base_model: m\nadapter: lora\nlearning_rate: 1e-4\ndatasets: [{path: d}]\n"k\\e]0;pwn\\a": "x\\e[31m"\n',
    )
    assert profile.model.base == "m"
    assert "k·]0;pwn· = x·[31m: it is not known here" in found.text


def test_only_configurations_look_foreign(tmp_path: Path) -> None:
    for name, text in (
        ("a.yml", AXOLOTL_QLORA),
        ("b.yaml", "services: {}"),
        ("c.json", "[1]"),
        ("d.toml", "base_model = 1"),
    ):
        (tmp_path / name).write_text(text)
    assert [looks_foreign(tmp_path / name) for name in ("a.yml", "b.yaml", "c.json", "d.toml", "e.yml")] == [
        "axolotl",
        "",
        "",
        "",
        "",
    ]


def told_of(value: object, key: str) -> bool:
    return value not in (None, "", [], {}) and not isinstance(value, Mapping | list) and not key.startswith("dataset")


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5000)
    | st.floats(allow_nan=False)
    | st.sampled_from(["", "no", "auto", "2e-4", "x,y", "ä\x1b[31m"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["path", "type", "name", "field"]), inner)
    ),
    max_leaves=6,
)
KNOWN = sorted(
    {
        *AXOLOTL,
        *LLAMA_FACTORY,
        *TRL,
        *yaml.safe_load(AXOLOTL_QLORA + LLAMA_FACTORY_SFT + TRL_SFT),
        "optim",
        "eval_steps",
        "packing",
        "rl",
        "bnb_config_kwargs",
        "dataset_mixture",
        "dataset_mixer",
        "dataset_splits",
    }
)


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["axolotl", "llama-factory", "trl"]),
    values=st.dictionaries(st.sampled_from([*KNOWN, "made_up"]), VALUES, max_size=12),
)
def test_whatever_the_values_each_key_is_told_of_once_or_all_is_refused(
    kind: str, values: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / "any.json"
    path.write_text(json.dumps(values))
    try:
        found = imported(path, kind)
    except Problem:
        return
    told = [line.key for line in found.lines if line.key]
    assert len(told) == len(set(told))
    assert {key for key, value in values.items() if told_of(value, key)} <= set(told)
    try:
        parse(found.text, path)
    except Problem as problem:
        assert problem.code == "profile"


def test_what_a_file_says_as_it_is_anyway_is_no_loss(tmp_path: Path) -> None:
    said = {
        "base_model": "m",
        "adapter": "lora",
        "optimizer": "adamw_torch_8bit",
        "datasets": [
            {
                "path": "d",
                "type": "chat_template",
                "field_thinking": "thinking",
                "roles": {"user": ["user", "human"], "assistant": ["gpt"]},
            },
            {"path": "e", "type": "chat_template", "field_thinking": "mind", "roles": {"user": ["customer"]}},
        ],
    }
    (tmp_path / "theirs.yml").write_text(yaml.safe_dump(said))
    found = imported(tmp_path / "theirs.yml")
    assert {line.key for line in found.of("left")} == {"datasets.1.field_thinking", "datasets.1.roles"}
    assert {"datasets.0.field_thinking", "datasets.0.roles"} <= {line.key for line in found.of("needless")}
    assert 'optimizer = "adamw_8bit"' in found.text


AXOLOTL = "base_model: m\nadapter: lora\nsequence_len: 128\nlearning_rate: 1e-4\ndatasets: [{path: d}]\n"
TRAINER = "model_name_or_path: m\ndataset_name: d\nmax_length: 128\n"


@pytest.mark.parametrize(
    ("text", "to", "value"),
    [
        (AXOLOTL + "train_on_inputs: true", "training.loss_on", "all"),
        (AXOLOTL + "load_in_8bit: true", "model.quantization", "int8"),
        (AXOLOTL + "load_in_4bit: true\nbnb_config_kwargs: {bnb_4bit_quant_type: fp4}", "model.quantization", "fp4"),
        (AXOLOTL + "peft_use_dora: true", "method.dora", True),
        (AXOLOTL + "peft_use_rslora: false", "method.rslora", False),
        (AXOLOTL + "sample_packing: true", "training.row_tokens", 128),
        (AXOLOTL + "excess_length_strategy: raise", "template.too_long", "fail"),
        (AXOLOTL + "excess_length_strategy: truncate", "template.too_long", "cut_input"),
        (AXOLOTL + "fp16: true", "model.dtype", "float16"),
        (AXOLOTL + "bf16: false\nfp16: false", "model.dtype", "float32"),
        (AXOLOTL + "evals_per_epoch: 4", "training.evaluate_every", "epoch"),
        (AXOLOTL + "fsdp: [full_shard, auto_wrap]", "hardware.sharding", "shard"),
        (TRAINER + "max_grad_norm: 0", "training.max_grad_norm", 1e9),
        (TRAINER + "lr_scheduler_type: constant_with_warmup", "training.schedule", "constant"),
        (TRAINER + "warmup_steps: 0.05", "training.warmup_ratio", 0.05),
        (TRAINER + "attn_implementation: flash_attention_2", "model.attention", "flash"),
        (TRAINER + "eval_strategy: steps\neval_steps: 25", "training.evaluate_every", 25),
        (TRAINER + "save_strategy: epoch", "training.save_every", "epoch"),
        (TRAINER + "optim: paged_adamw_32bit", "training.optimizer", "paged_adamw_8bit"),
        (
            "model_name_or_path: m\nstage: sft\ndataset: d\ntemplate: x\nflash_attn: disabled",
            "model.attention",
            "eager",
        ),
        ("model_name_or_path: m\nstage: sft\ndataset: d\ntemplate: x\nfinetuning_type: full", "method.name", "full"),
    ],
    ids=lambda value: value.rpartition("\n")[2] if isinstance(value, str) else str(value),
)
def test_a_key_arrives_with_its_meaning(text: str, to: str, value: object, tmp_path: Path) -> None:
    _, profile = read(tmp_path, text)
    assert flat(profile)[to] == value


def test_what_a_share_or_adamw_cannot_say_is_left_and_what_is_off_is_not(tmp_path: Path) -> None:
    found, profile = read(
        tmp_path, TRAINER + "adam_beta1: 0.9\nadam_beta2: 0.95\nwarmup_steps: 30\nneftune_noise_alpha: 0"
    )
    assert keys(found, "left") == {"adam_beta2", "warmup_steps"}
    assert keys(found, "needless") >= {"adam_beta1", "neftune_noise_alpha"}
    assert profile.training.warmup_ratio == 0.03
    found, _ = read(tmp_path, AXOLOTL + "val_set_size: 1\nwandb_api_key: abc123")
    assert "val_set_size" in keys(found, "left")
    assert "abc123" not in found.text + str(found.lines)
