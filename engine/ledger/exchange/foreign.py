"""Other people's names in the words of this ledger, so that their runs stand beside ours: metrics, settings, and no secrets.

The names are those of Hugging Face's Trainer, in its own state and as its callbacks hand them on to TensorBoard, wandb and
trackio, and a few that people give by hand. What is not known keeps its name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from itertools import chain, count
from typing import Final

METRICS: Final = {
    "loss": "train/loss",
    "train_loss": "train/loss",
    "learning_rate": "train/rate",
    "lr": "train/rate",
    "train/learning_rate": "train/rate",
    "train/lr": "train/rate",
    "grad_norm": "train/grad_norm",
    "epoch": "train/epoch",
    "num_input_tokens_seen": "train/tokens",
    "num_tokens": "train/tokens",
    "train/num_input_tokens_seen": "train/tokens",
    "train/num_tokens": "train/tokens",
}
# What TRL's trainers call what our preference objectives measure; its mean_token_accuracy is another accuracy than theirs.
PREFERENCES: Final = {
    "rewards/chosen": "chosen_reward",
    "rewards/rejected": "rejected_reward",
    "rewards/margins": "reward_margin",
    "rewards/accuracies": "accuracy",
    "logps/chosen": "chosen_logp",
    "logps/rejected": "rejected_logp",
}
VALIDATION: Final = re.compile(r"^(?:eval|val|valid|validation|dev)[/_](?=.)")
STEP_KEYS: Final = ("train/global_step", "global_step")
"""Metrics that say at which optimizer step a row was logged, where the tracker counts its own calls."""

SETTINGS: Final = {
    "learning_rate": "training.learning_rate",
    "lr": "training.learning_rate",
    "num_train_epochs": "training.epochs",
    "max_steps": "training.max_steps",
    "per_device_train_batch_size": "training.micro_batch",
    "lr_scheduler_type": "training.schedule",
    "warmup_ratio": "training.warmup_ratio",
    "weight_decay": "training.weight_decay",
    "max_grad_norm": "training.max_grad_norm",
    "optim": "training.optimizer",
    "seed": "training.seed",
    "_name_or_path": "model.base",
    "model_name_or_path": "model.base",
    "base_model_name_or_path": "model.base",
    "base_model": "model.base",
    "r": "method.rank",
    "lora_r": "method.rank",
    "lora_alpha": "method.alpha",
    "lora_dropout": "method.dropout",
    "target_modules": "method.targets",
    "use_dora": "method.dora",
    "use_rslora": "method.rslora",
}
SECRET: Final = re.compile(
    r"(?:^|[./])(?:token|\w*secret\w*|\w*passw(?:or)?d|\w*(?:api|access|auth|hub|hf|bearer|private)[_-]?(?:key|token))$",
    re.I,
)
LOOKS_SECRET: Final = re.compile(r"^(?:hf_|sk-|ghp_|github_pat_|wandb_v1_)[\w-]{12,}$|://[^/\s:@]+:[^/\s@]+@")
LONGEST: Final = 1000  # characters of a setting: chat templates and the like are cut


class Names:
    """The ledger's names of one source's metrics: no two of them get the same, the first that is met has it."""

    def __init__(self) -> None:
        self._given: dict[str, str] = {}
        self._taken: set[str] = set()

    def __call__(self, key: str) -> str:
        """The name for `key`, the same each time."""
        if key not in self._given:
            name = METRICS.get(key) or VALIDATION.sub("validation/", key)
            part, _, rest = name.partition("/")
            name = f"{part}/{PREFERENCES.get(rest, rest)}" if rest else name
            others = (f"{key}_{number}" for number in count(2))
            self._given[key] = next(each for each in chain((name, key), others) if each not in self._taken)
            self._taken.add(self._given[key])
        return self._given[key]


def settings(config: Mapping[str, object]) -> dict[str, object]:
    """A tracker's configuration flattened to dotted keys, under our names, without secrets and what is empty."""
    flat = dict(_flat("", config))
    renamed = {SETTINGS[key]: value for key, value in flat.items() if key in SETTINGS}
    return renamed | {key: value for key, value in flat.items() if key not in SETTINGS and key not in renamed}


def _flat(prefix: str, value: object) -> list[tuple[str, object]]:
    if isinstance(value, Mapping):
        return [
            pair
            for key, each in value.items()
            if not str(key).startswith("_wandb")
            for pair in _flat(f"{prefix}.{key}" if prefix else str(key), each)
        ]
    empty = value is None or value in ("", [], ())
    return [] if empty or _is_secret(prefix, value) else [(prefix, _plain(value))]


def _plain(value: object) -> object:
    """A setting as JSON can keep it: NaN and infinities have no number there."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, bool | int | float):
        return value
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _is_secret(key: str, value: object) -> bool:
    """Whether it is one, or holds one."""
    if isinstance(value, Mapping):
        return any(_is_secret(str(name), each) for name, each in value.items())
    if isinstance(value, list | tuple):
        return any(_is_secret(key, each) for each in value)
    return isinstance(value, str) and bool(SECRET.search(key) or LOOKS_SECRET.search(value))


def parsed(text: str | bytes) -> object:
    """A JSON value, NaN and infinities among it.

    Raises:
        ValueError: it is none, or is nested deeper than can be read.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def number(value: object) -> float | None:
    """A metric's value as trackers write it: a number, a boolean, or the name of a gap; None for all else."""
    if isinstance(value, bool | int | float):
        try:
            return float(value)
        except OverflowError:
            return None
    return (
        {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}.get(value) if isinstance(value, str) else None
    )


def whole(value: object) -> int | None:
    """A step as trackers write it; None for what is no whole number, or beyond what float64 counts exactly."""
    found = number(value)
    return int(found) if found is not None and found.is_integer() and abs(found) <= 2**53 else None


def numbers(values: Mapping[str, object], prefix: str = "") -> dict[str, float]:
    """The numbers among nested `values`, by dotted key; texts, pictures and tables are left out."""
    found: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            if "_type" not in value:  # a picture, a histogram, a table of wandb's or trackio's
                found |= numbers(value, f"{prefix}{key}.")
        elif (figure := number(value)) is not None:
            found[f"{prefix}{key}"] = figure
    return found


def short_gpu(name: str, count: int = 1) -> str:
    """A GPU's name as the table shows it: `H200`, `2x RTX 4090`."""
    short = re.sub(r"^NVIDIA |GeForce |Tesla |Quadro ", "", name).strip()
    return f"{count}x {short}" if short and count > 1 else short
