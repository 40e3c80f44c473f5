"""Which values mean something beside the others: what does not is left out of the form, or dimmed where the file sets it all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from screens.configure.fields import shown

Condition = tuple[str, tuple[object, ...]]
"""Another dotted key, and the values that it must have one of."""

LORA: Final = ("method.name", ("lora",))
MODULES: Final = ("method.name", ("lora", "ia3"))
PROMPTS: Final = ("method.name", ("prefix", "p_tuning", "prompt_tuning"))
WEIGHTS: Final = ("method.name", ("full", "lora", "ia3"))
GPU: Final = ("hardware.device", ("auto", "cuda"))
ONLY: Final[dict[str, tuple[Condition, ...]]] = {
    "model.double_quantization": (("model.quantization", ("nf4", "fp4")),),
    **{f"method.{name}": (LORA,) for name in ("rank", "alpha", "dropout", "dora", "rslora", "bias")},
    **{f"method.{name}": (MODULES,) for name in ("targets", "modules_to_save")},
    "method.virtual_tokens": (PROMPTS,),
    "training.loss_on": (("training.objective", ("sft",)),),
    "training.beta": (("training.objective", ("dpo", "orpo")),),
    "training.length_normalised": (("training.objective", ("dpo",)),),
    "training.epochs": (("training.max_steps", (None,)),),
    "training.packing": (WEIGHTS,),
    "training.row_tokens": (WEIGHTS, ("training.packing", ("auto", True))),
    **{f"hardware.{name}": (GPU,) for name in ("gpus", "headroom_mib")},
}
"""Under which conditions a key means something; all of them must hold."""


def why_not(key: str, value: Callable[[str], object]) -> str:
    """Why the value of a dotted key means nothing where the others are what `value` says; empty if it does."""
    for other, wanted in ONLY.get(key, ()):
        if value(other) not in wanted:
            only = f"only with {other} = {' or '.join(map(shown, wanted))}"
            return f"not used while {other} is set" if wanted == (None,) else only
    return ""
