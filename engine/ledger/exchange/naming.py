"""What transformers' Trainer, TRL and PEFT call things, in this program's words, so that their runs stand beside our own.

Names were read in transformers 5.23 (`trainer.py`, `integrations/integration_utils.py: rewrite_logs`), TRL 0.24 (the metrics
of its trainers) and PEFT 0.21 (`adapter_config.json`). What has no word here keeps its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

_METRICS: Final = {
    "learning_rate": "rate",
    "num_tokens": "tokens",  # as that program counts them
    "num_input_tokens_seen": "tokens",
    "rewards/chosen": "chosen_reward",
    "rewards/rejected": "rejected_reward",
    "rewards/margins": "reward_margin",
    "rewards/accuracies": "accuracy",
    "logps/chosen": "chosen_logp",
    "logps/rejected": "rejected_logp",
    "train_loss": "mean_loss",  # the last line's, over all steps
    "train_samples_per_second": "samples_per_second",
    "train_steps_per_second": "steps_per_second",
    "total_flos": "flops",
}
_PARTS: Final = {"train": "train", "eval": "validation", "test": "test"}
_STEPS: Final = frozenset({"step", "global_step", "_step", "train/global_step"})
_RUNTIMES: Final = {"train/train_runtime": "time/train", "validation/runtime": "time/validation"}
ENDED: Final = "time/train"
"""A metric that Trainer logs once, when it has trained to its end."""

_ARGUMENTS: Final = {
    "learning_rate": "training.learning_rate",
    "num_train_epochs": "training.epochs",
    "max_steps": "training.max_steps",
    "per_device_train_batch_size": "training.micro_batch",
    "weight_decay": "training.weight_decay",
    "max_grad_norm": "training.max_grad_norm",
    "lr_scheduler_type": "training.schedule",
    "warmup_ratio": "training.warmup_ratio",
    "optim": "training.optimizer",
    "seed": "training.seed",
    "beta": "training.beta",
    "packing": "training.packing",
    "max_length": "template.max_tokens",
    "gradient_checkpointing": "training.checkpoint_activations",
}
_MODEL: Final = {"_name_or_path": "model.base", "model_type": "model.type", "dtype": "model.dtype"}
_ADAPTER: Final = {
    "base_model_name_or_path": "model.base",
    "peft_type": "method.name",
    "r": "method.rank",
    "lora_alpha": "method.alpha",
    "lora_dropout": "method.dropout",
    "target_modules": "method.targets",
    "use_dora": "method.dora",
    "use_rslora": "method.rslora",
    "bias": "method.bias",
    "num_virtual_tokens": "method.virtual_tokens",
}
# Where files lie and how a run reports differs between any two runs and says nothing of either.
_LEFT_OUT: Final = frozenset({"output_dir", "logging_dir", "run_name", "report_to", "local_rank", "deepspeed_plugin"})


def metric(name: str) -> str:
    """A metric's name: `eval_loss` and `eval/loss` are validation/loss, `loss` is train/loss, `Loss/mine` stays."""
    part, slash, rest = name.partition("/")
    if slash and part in _PARTS:
        part = _PARTS[part]
    elif not slash or name in _METRICS:
        prefix, underscore, inner = name.partition("_")
        evaluated = bool(underscore) and prefix in ("eval", "test")
        part, rest = (_PARTS[prefix], inner) if evaluated else ("train", name)
    elif part.startswith(("eval_", "test_")):  # of TRL: eval_rewards/margins
        prefix, _, inner = name.partition("_")
        part, rest = _PARTS[prefix], inner
    else:
        return name
    known = f"{part}/{_METRICS.get(rest, rest)}"
    return _RUNTIMES.get(known, known)


def metrics(values: Mapping[str, object]) -> dict[str, float]:
    """The numbers of a line that Trainer logs, by our names; what is no number and the step itself are left out.

    Trainer 5 prints numbers as text: `{'loss': '6.193'}`.
    """
    found = {}
    for name, value in values.items():
        if name not in _STEPS and (read := number(value)) is not None:
            found[metric(name)] = read
    return found


def number(value: object) -> float | None:
    """A number, or a text that is one (`nan` and `inf` too); None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def arguments(values: Mapping[str, object]) -> dict[str, object]:
    """Settings from what `TrainingArguments.to_dict` gives: those that a profile knows by its keys, others as `trainer.KEY`.

    What is unset, where files lie and whatever may be a secret is left out.
    """
    found: dict[str, object] = {}
    for name, value in values.items():
        secret = name.endswith(("_token", "_key", "password", "secret"))
        if (
            value is None
            or value in ("", [], {}, "None")
            or secret
            or name in _LEFT_OUT
            or name.startswith(("hub_", "_"))
        ):
            continue
        if name == "max_steps" and isinstance(value, int | float) and value <= 0:
            continue
        if isinstance(value, float) and not math.isfinite(value):
            continue
        if isinstance(value, str | int | float):
            found[_ARGUMENTS.get(name, f"trainer.{name}")] = value
    return found


def model(config: Mapping[str, object]) -> dict[str, object]:
    """Settings from a model's config.json."""
    return {key: config[name] for name, key in _MODEL.items() if isinstance(config.get(name), str) and config[name]}


def adapter(config: Mapping[str, object]) -> dict[str, object]:
    """Settings from PEFT's adapter_config.json."""
    found: dict[str, object] = {}
    for name, key in _ADAPTER.items():
        value = config.get(name)
        if name == "peft_type" and isinstance(value, str):
            found[key] = value.lower()
        elif name == "target_modules" and isinstance(value, list):
            found[key] = sorted(map(str, value))
        elif isinstance(value, str | int | float) and value != "":
            found[key] = value
    return found
