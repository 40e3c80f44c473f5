"""The keys of transformers' TrainingArguments, which LLaMA-Factory and TRL have too. (Their names and defaults: transformers, training_args.py.)"""

from __future__ import annotations

from typing import Final

from engine.importing.carrying import Carry, names

OPTIMIZERS: Final = {
    "adamw_torch": "adamw",
    "adamw_torch_fused": "adamw",
    "adamw_hf": "adamw",
    "adamw_8bit": "adamw_8bit",
    "adamw_bnb_8bit": "adamw_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
    "adafactor": "adafactor",
}
SCHEDULES: Final = {
    "cosine": "cosine",
    "linear": "linear",
    "constant": "constant",
    "constant_with_warmup": "constant",
}
TRACKERS: Final = ("tensorboard", "wandb", "trackio")
TELLING: Final = frozenset({"per_device_train_batch_size", "num_train_epochs", "lr_scheduler_type", "output_dir"})
"""Keys by which the arguments of a Trainer are known, where no key is another program's."""
ADAM: Final = {"adam_beta1": 0.9, "adam_beta2": 0.999, "adam_epsilon": 1e-8}


def carry_training(carry: Carry, *, rate: float, per_step: int) -> None:
    """Everything about steps, rates and saving. `rate` and `per_step` (rows a device) are the program's defaults."""
    batch(carry, "per_device_train_batch_size", per_step)
    length(carry, "num_train_epochs", 3.0)
    optimizer(carry, "optim")
    schedule(carry, "lr_scheduler_type", "linear")
    carry.same("learning_rate", "training.learning_rate")
    carry.assumed("training.learning_rate", rate, "their default")
    carry.same("weight_decay", "training.weight_decay")
    carry.assumed("training.weight_decay", 0.0, "their default")
    clipping(carry)
    carry.same("seed", "training.seed")
    carry.assumed("training.seed", 42, "their default")
    carry.same("full_determinism", "training.deterministic", carry.on("full_determinism"))
    for key in ("use_cpu", "no_cuda"):
        if carry.on(key):
            carry.same(key, "hardware.device", "cpu")
        carry.needless(key, "it is off")
    saving(carry)
    mirrors(carry)
    sharding(carry)


def batch(carry: Carry, key: str, default: int) -> None:
    """Examples per optimizer step: rows a device, times accumulation, times devices - which no file says."""
    rows, accumulated = carry.get(key, default), carry.get("gradient_accumulation_steps", 1)
    if not isinstance(rows, int) or not isinstance(accumulated, int):
        carry.same(key, "training.micro_batch")  # the profile's own check says what is wrong with it
        return
    why = "a step's examples, taken for one GPU: on N of them set N times as many"
    step = {"training.effective_batch": rows * accumulated}
    carry.same(key, "training.micro_batch")
    if carry.has("gradient_accumulation_steps"):
        carry.changed("gradient_accumulation_steps", step, why)
    else:
        carry.assumed("training.effective_batch", rows * accumulated, why)
    carry.assumed("training.micro_batch", rows, "their default")


def length(carry: Carry, key: str, default: float) -> None:
    """Epochs, or steps in their place."""
    steps = carry.get("max_steps")
    if isinstance(steps, int) and steps <= 0:
        carry.needless("max_steps", "it is off")
    else:
        carry.same("max_steps", "training.max_steps")
    if "training.max_steps" in carry.values:
        carry.needless(key, "max_steps decides")
    else:
        carry.same(key, "training.epochs")
        carry.assumed("training.epochs", default, "their default")
    warmup(carry)


def warmup(carry: Carry) -> None:
    """A share of the steps; a number of them only where it is known how many there are."""
    steps, total = carry.get("warmup_steps"), carry.values.get("training.max_steps")
    carry.same("warmup_ratio", "training.warmup_ratio")
    if not isinstance(steps, int | float) or steps <= 0:
        carry.needless("warmup_steps", "it is off")
    elif steps < 1:
        carry.same("warmup_steps", "training.warmup_ratio")
    elif isinstance(total, int) and steps < total:
        carry.same("warmup_steps", "training.warmup_ratio", round(steps / total, 6))
    else:
        carry.left("warmup_steps", "a share is wanted: training.warmup_ratio = warmup_steps / the number of steps")
        carry.assumed("training.warmup_ratio", 0.03, "in place of warmup_steps")
    carry.assumed("training.warmup_ratio", 0.0, "their default")


def optimizer(carry: Carry, key: str) -> None:
    """The optimizer, else the one that is nearest."""
    named = str(carry.get(key, "adamw_torch_fused"))
    if named in OPTIMIZERS:
        carry.same(key, "training.optimizer", OPTIMIZERS[named])
    elif named.startswith("paged_adamw"):
        carry.changed(key, {"training.optimizer": "paged_adamw_8bit"}, "its states are kept in 8 bits, not in 32")
    elif named in ("adamw_torch_8bit", "adamw_torch_4bit"):
        carry.changed(key, {"training.optimizer": "adamw_8bit"}, "its states are kept in 8 bits by bitsandbytes")
    else:
        carry.changed(key, {"training.optimizer": "adamw"}, f"it becomes adamw: there is no {named} here")
    for name, usual in ADAM.items():
        if carry.get(name) == usual:
            carry.needless(name, "that is how it is here")
        carry.left(name, f"AdamW has {usual:g} here")


def schedule(carry: Carry, key: str, default: str) -> None:
    """How the rate falls."""
    named = str(carry.get(key, default))
    if named in SCHEDULES:
        carry.same(key, "training.schedule", SCHEDULES[named])
        carry.assumed("training.schedule", SCHEDULES[named], "their default")
    else:
        nearest = "linear" if named == "polynomial" else "cosine"
        carry.changed(key, {"training.schedule": nearest}, f"there is no {named} here; {nearest} falls to zero")


def clipping(carry: Carry) -> None:
    """The norm that gradients are clipped to; zero means never, there."""
    if carry.has("max_grad_norm") and carry.get("max_grad_norm") == 0:
        carry.changed(
            "max_grad_norm", {"training.max_grad_norm": 1e9}, "0 is no clipping there: a norm that is never reached"
        )
    carry.same("max_grad_norm", "training.max_grad_norm")


def saving(carry: Carry) -> None:
    """When it is validated and saved."""
    for what, to in (("eval", "training.evaluate_every"), ("save", "training.save_every")):
        key = (
            f"{what}_strategy"
            if carry.has(f"{what}_strategy")
            else "evaluation_strategy"
            if what == "eval"
            else "save_strategy"
        )
        strategy, steps = carry.get(key, "no" if what == "eval" else "steps"), carry.get(f"{what}_steps", 500)
        often = steps if isinstance(steps, int) and steps > 0 else None
        if strategy == "epoch" or strategy == "best":
            carry.same(key, to, "epoch")
            carry.needless(f"{what}_steps", f"{key} decides")
        elif what == "eval" and carry.values.get("split.validation") == 0 and strategy in ("no", False):
            carry.needless(key, "there are no validation rows")
            carry.needless(f"{what}_steps", f"{key} decides")
        elif strategy == "no" or strategy is False:  # YAML's `no` is a truth value
            stays = (
                "validation loss is measured after each epoch"
                if what == "eval"
                else "a checkpoint is kept after each epoch"
            )
            carry.changed(
                key, {to: "epoch"}, f"{stays} all the same; split.validation = 0 is none" if what == "eval" else stays
            )
            carry.needless(f"{what}_steps", f"{key} decides")
        elif often is None:
            carry.left(f"{what}_steps", f"a number of steps is wanted in {to}")
        else:
            carry.same(f"{what}_steps", to, often)
            carry.assumed(to, often, "their default")
        carry.needless(key, f"{what}_steps decides")
    if carry.has("save_total_limit"):
        carry.changed(
            "save_total_limit", {"training.keep": carry.get("save_total_limit")}, "the best is kept besides these"
        )


def mirrors(carry: Carry) -> None:
    """The trackers that metrics also go to."""
    asked = names(carry.get("report_to", ""))
    known = [name for name in asked if name in TRACKERS]
    if known:
        carry.same("report_to", "training.mirror", known)
    elif asked in (["none"], ["all"]):
        carry.needless("report_to", "the ledger keeps the metrics")
    carry.left("report_to", f"metrics go to the ledger, and to {', '.join(TRACKERS)} if asked")


def sharding(carry: Carry) -> None:
    """FSDP in any of its forms that divide the weights."""
    asked = str(carry.get("fsdp", ""))
    if asked and asked.lower() not in ("false", "no_shard"):
        carry.changed(
            "fsdp",
            {"hardware.sharding": "shard"},
            "FSDP2 divides weights, gradients and optimizer states among the GPUs",
        )
    carry.needless("fsdp", "it is off")


def gradient_checkpointing(carry: Carry, *, default: bool) -> None:
    """Whether activations are recomputed."""
    there = carry.get("gradient_checkpointing", default)
    if isinstance(there, str):
        carry.changed(
            "gradient_checkpointing", {"training.checkpoint_activations": True}, "recomputed, not moved to the CPU"
        )
    else:
        carry.same("gradient_checkpointing", "training.checkpoint_activations", bool(there))
        carry.assumed("training.checkpoint_activations", bool(there), "their default")


def validation(carry: Carry, key: str) -> None:
    """The share of rows that validation loss is measured on."""
    size = carry.get(key, 0)
    if isinstance(size, int | float) and size >= 1:
        carry.left(key, "a share of the rows is wanted: split.validation = that many / all rows; 0.1 stays")
    else:
        carry.same(key, "split.validation", size)
        carry.assumed("split.validation", 0, "their default: none is measured")


def precision(carry: Carry, *, bfloat16: bool, half: bool) -> None:
    """The compute type from the two switches, and which of them said it."""
    dtype = "bfloat16" if bfloat16 else "float16" if half else "float32"
    said = "bf16" if carry.has("bf16") else "fp16"
    carry.same(said, "model.dtype", dtype)
    for key in ("bf16", "fp16"):
        carry.needless(key, "the other decides")
    carry.assumed("model.dtype", dtype, "their default")


def attention(carry: Carry, key: str) -> None:
    """The attention kernel by the names of transformers and LLaMA-Factory."""
    named = str(carry.get(key, "auto"))
    kernels = {"fa2": "flash", "disabled": "eager", "eager": "eager", "sdpa": "sdpa", "auto": "auto"}
    if named in kernels or named.startswith("flash_attention"):
        carry.same(key, "model.attention", kernels.get(named, "flash"))
    else:
        carry.left(key, "kernels here are sdpa, eager and flash")
