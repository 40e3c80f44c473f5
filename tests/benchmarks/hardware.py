"""Usual GPUs against models and methods: what fits, in what micro-batch, how fast; and what rules of thumb say of the same.

`python -m tests.benchmarks.hardware [--tokens 1024] [--simulate] [--model ID ...] [--json]` computes it for rows of that length, all tokens supervised, one row
or more at a time, activations recomputed where that is needed. Without `--simulate`, by formulas, in a second; with it each figure of the
first table is simulated: minutes, once, then kept.

Rules of thumb, GB for x billion parameters: LLaMA-Factory's README ("Hardware Requirement", estimated: 18x full, 8x full in pure bfloat16, 2x
LoRA, x / 2 in 4 bits; figures of its table where it has the size), and the minimum VRAM of Unsloth's documentation
(https://unsloth.ai/docs/get-started/fine-tuning-for-beginners/unsloth-requirements), which is of Unsloth's own kernels.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from engine.errors import Problem
from engine.fit import cards, shapes
from engine.fit.estimate import FORMULAS, MIB, GpuFit, context_mib, fit
from engine.fit.facts import Facts
from engine.fit.simulator import Simulator
from engine.profile import Profile
from screens.widgets import figures
from workbench.cli.output import print_json, print_table

MODELS: Final = (
    "meta-llama/Llama-3.2-1B",
    "meta-llama/Llama-3.2-3B",
    "meta-llama/Llama-2-7b-hf",
    "meta-llama/Llama-3.1-8B",
    "Qwen/Qwen3-14B",
    "openai/gpt-oss-20b",
    "Qwen/Qwen3-30B-A3B",
    "Qwen/Qwen3-32B",
    "meta-llama/Llama-3.3-70B-Instruct",
)
GPUS: Final = ("RTX 3060", "RTX 4060 Ti 16GB", "RTX 4090", "RTX 5090", "L40S", "A100 80GB", "H200")
METHODS: Final = {
    "full": {"method": {"name": "full"}},
    "lora": {"method": {"name": "lora"}},
    "qlora": {"method": {"name": "lora"}, "model": {"quantization": "nf4"}},
}
GB_OF: Final = {"full": 18.0, "lora": 2.0, "qlora": 0.5}  # LLaMA-Factory's last column
LLAMA_FACTORY: Final = {"full": {7: 120, 14: 240, 30: 600, 70: 1200}} | {
    "lora": {7: 16, 14: 32, 30: 64, 70: 160},
    "qlora": {7: 6, 14: 12, 30: 24, 70: 48},
}
UNSLOTH: Final[dict[str, dict[int, float]]] = {
    "lora": {3: 8, 7: 19, 8: 22, 14: 33, 32: 76, 70: 164},
    "qlora": {3: 3.5, 7: 5, 8: 6, 14: 8.5, 32: 26, 70: 41},
}
GB_IN_MIB: Final = 1e9 / MIB


@dataclass(frozen=True)
class Need:
    """What a method needs of a GPU for a model with one row at a time, in GB, activations recomputed; and what rules of thumb say."""

    model: str
    method: str
    process_gb: float
    source: str
    llama_factory_gb: float
    unsloth_gb: float | None


@dataclass(frozen=True)
class Place:
    """A model and method on a GPU; `micro_batch` is the fastest that fits, `longest` the tokens of the longest rows that do."""

    model: str
    method: str
    gpu: str
    fits: bool
    micro_batch: int
    recomputes: bool
    longest: int
    tokens_per_second: tuple[float, float] | None


def profile(base: str, method: str, **training: object) -> Profile:
    """Otherwise as profiles are when nothing is said: rank 16 on all linear layers, AdamW, bfloat16."""
    settings = METHODS[method]
    values = {"model": {"base": base, **settings.get("model", {})}, "method": settings["method"]}
    return Profile.model_validate({**values, "data": [{"source": "rows.jsonl"}], "training": training})


def facts(base: str, tokens: int) -> Facts:
    """Rows of one length, of which all is supervised."""
    return Facts(shapes.config_of(base), 10_000, 0, 0, tokens, float(tokens), tokens)


def needs(models: Sequence[str], tokens: int, simulator: Simulator | None) -> list[Need]:
    """For each model and method: one row at a time on the largest card."""
    card, found = cards.named("H200"), []
    for base in models:
        for method in METHODS:
            fixed = profile(base, method, micro_batch=1, checkpoint_activations=True)
            one = fit(fixed, facts(base, tokens), card, FORMULAS, climb=False)
            process, source = one.predicted_process_mib, one.source
            if simulator:
                try:
                    answer = simulator.ask(one.question)
                    process, source = answer.reserved / MIB + context_mib(card), "simulated"
                except Problem as problem:
                    source = f"estimated ({problem.what})"
            billions = shapes.of_model(base).parameters / 1e9
            said = _near(LLAMA_FACTORY[method], billions) or GB_OF[method] * billions
            found.append(
                Need(_name(base), method, process / GB_IN_MIB, source, said, _near(UNSLOTH.get(method, {}), billions))
            )
    return found


def _near(table: dict[int, float] | dict[int, int], billions: float) -> float | None:
    """The table's figure for a size that is meant by one of its columns."""
    return next((float(said) for size, said in table.items() if abs(size - billions) <= 0.07 * size), None)


def places(models: Sequence[str], tokens: int) -> list[Place]:
    """Each model and method on each GPU, by formulas."""
    found = []
    for base in models:
        for method in METHODS:
            for gpu in GPUS:
                one = fit(profile(base, method), facts(base, tokens), cards.named(gpu))
                found.append(_place(_name(base), method, gpu, one))
    return found


def _place(model: str, method: str, gpu: str, one: GpuFit) -> Place:
    rows = one.micro_batch if one.fits else 0
    return Place(
        model, method, gpu, one.fits, rows, one.checkpoint_activations, one.longest_tokens, one.tokens_per_second
    )


def _name(base: str) -> str:
    return next(model.name for model in shapes.shipped_models() if base in model.ids)


def _cell(place: Place) -> str | None:
    if not place.fits:
        return None
    speed = "" if place.tokens_per_second is None else f" {figures.count(sum(place.tokens_per_second) / 2)}/s"
    return f"{place.micro_batch}{'*' if place.recomputes else ''}{speed}"


def _print(tokens: int, needed: list[Need], there: list[Place]) -> None:
    print(f"GB of one row of {tokens:,} tokens, activations recomputed; what rules of thumb say behind it\n")
    rows = [
        (one.model, one.method, f"{one.process_gb:.1f}", f"{one.llama_factory_gb:.0f}", one.unsloth_gb, one.source)
        for one in needed
    ]
    print_table(("model", "method", "GB", "LLaMA-Factory", "Unsloth", ""), rows, right=("GB", "LLaMA-Factory"))
    print(
        f"\nMicro-batch of rows of {tokens:,} tokens (* activations recomputed) and tokens a second, the middle of the interval\n"
    )
    by = {(one.model, one.method, one.gpu): one for one in there}
    rows_there = [
        (model, method, *(_cell(by[model, method, gpu]) for gpu in GPUS))
        for model, method in dict.fromkeys((one.model, one.method) for one in there)
    ]
    print_table(("model", "method", *GPUS), rows_there, right=GPUS)
    print("\nTokens of the longest rows that fit one at a time\n")
    longest = [
        (model, method, *(by[model, method, gpu].longest or None for gpu in GPUS))
        for model, method in dict.fromkeys((one.model, one.method) for one in there)
    ]
    print_table(("model", "method", *GPUS), longest, right=GPUS)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--simulate", action="store_true")
    parser.add_argument("--model", action="append", metavar="ID", help="in place of the usual ones")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    simulator = Simulator() if options.simulate else None
    try:
        models = options.model or MODELS
        needed, there = needs(models, options.tokens, simulator), places(models, options.tokens)
    finally:
        if simulator:
            simulator.close()
    if options.json:
        print_json({"needs": [asdict(one) for one in needed], "places": [asdict(one) for one in there]})
    else:
        _print(options.tokens, needed, there)


if __name__ == "__main__":
    main()
