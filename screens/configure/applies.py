"""Which values mean something beside the others: what does not is left out of the form, or dimmed where the file sets it all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from screens.configure.fields import shown

LORA: Final = ("method.name", ("lora",))
MODULES: Final = ("method.name", ("lora", "ia3"))
PROMPTS: Final = ("method.name", ("prefix", "p_tuning", "prompt_tuning"))
GPU: Final = ("hardware.device", ("auto", "cuda"))
ONLY: Final[dict[str, tuple[str, tuple[object, ...]]]] = {
    "model.double_quantization": ("model.quantization", ("nf4", "fp4")),
    **dict.fromkeys(
        ("method.rank", "method.alpha", "method.dropout", "method.dora", "method.rslora", "method.bias"), LORA
    ),
    **dict.fromkeys(("method.targets", "method.modules_to_save"), MODULES),
    "method.virtual_tokens": PROMPTS,
    "training.loss_on": ("training.objective", ("sft",)),
    "training.beta": ("training.objective", ("dpo", "orpo")),
    "training.length_normalised": ("training.objective", ("dpo",)),
    "training.epochs": ("training.max_steps", (None,)),
    "training.row_tokens": ("training.packing", ("auto", True)),
    **dict.fromkeys(("hardware.gpus", "hardware.headroom_mib"), GPU),
}
"""A key, and the other key that must have one of these values for it to mean something."""


def why_not(key: str, value: Callable[[str], object]) -> str:
    """Why the value of a dotted key means nothing where the others are what `value` says; empty if it does."""
    other, wanted = ONLY.get(key, ("", ()))
    if not other or value(other) in wanted:
        return ""
    if wanted == (None,):
        return f"not used while {other} is set"
    return f"only with {other} = {' or '.join(map(shown, wanted))}"
