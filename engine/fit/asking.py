"""From a profile and what is known of its base and data to the question of how much memory its step takes.

What does not change the memory is left out or made alike - rates, seeds, alpha, how strong dropout is - so that a change of it finds the
answer that is already known. The values that stay have the names and the forms that a profile gives them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from engine.fit.facts import Facts
from engine.fit.question import Machine, Question, Step
from engine.fit.shapes import published_in_4_bits
from engine.profile import Method, Model, Profile

NAMES: Final = frozenset({"_name_or_path", "transformers_version", "torch_dtype", "dtype"})
"""Of a config.json: who wrote it, and the type that weights were saved in; a profile says in which they are loaded."""
SOME_DROPOUT: Final = 0.1  # any: the mask takes the same room


def question(profile: Profile, facts: Facts, *, rows: int, checkpointing: bool, machine: Machine) -> Question:
    """What a rank of the profile's run has to hold when `rows` of its longest rows go through at once."""
    left_out = NAMES | ({"quantization_config"} if published_in_4_bits(facts.config) else set())
    return Question(
        config={key: value for key, value in facts.config.items() if key not in left_out},
        model=_model(profile.model, facts.config),
        method=_method(profile.method),
        training={"objective": profile.training.objective, "optimizer": profile.training.optimizer},
        step=_step(profile, facts, rows, checkpointing, machine.ranks),
        machine=machine,
    )


def row_limit(profile: Profile, facts: Facts) -> int:
    """Tokens that a row of one example may have at most."""
    limit = profile.template.max_tokens
    return facts.max_tokens if limit == "auto" else min(facts.max_tokens, limit)


def share(profile: Profile, ranks: int) -> int:
    """Examples of an effective batch that a rank has to do, at most."""
    return math.ceil(profile.training.effective_batch / ranks)


def _step(profile: Profile, facts: Facts, rows: int, checkpointing: bool, ranks: int) -> Step:
    """The largest micro-batch that the data give, as `engine.train.batches` lays it out."""
    training, pair = profile.training, facts.rows_per_example
    limit = row_limit(profile, facts)
    longest = min(limit, facts.longest_tokens or limit)
    kept = min(facts.kept_tokens, longest)
    examples = min(share(profile, ranks), max(1, facts.train_rows))
    packed = not profile.method.learns_a_prompt if training.packing == "auto" else training.packing
    if not packed:
        at_once = min(max(1, rows // pair), examples)  # the rows of an example are never parted
        rows = at_once * pair
        return Step(rows, longest, rows * kept, False, checkpointing, at_once < examples)
    row_tokens = limit if training.row_tokens == "auto" else training.row_tokens
    needed = examples * facts.mean_tokens * pair
    if rows * row_tokens < pair * longest:  # an example that is longer than all rows together has one of its own
        return Step(pair, longest, pair * kept, True, checkpointing, pair * longest < needed)
    tokens = min(row_tokens, math.ceil(examples * pair * longest / rows))  # no more than a step's examples fill
    supervised = max(1, rows * tokens * kept // longest)
    return Step(rows, tokens, supervised, True, checkpointing, rows * tokens < needed)


def _model(model: Model, config: Mapping[str, object]) -> dict[str, object]:
    found: dict[str, object] = {
        "quantization": model.quantization,
        "dtype": model.dtype,
        "attention": "sdpa" if model.attention == "auto" else model.attention,
    }
    if model.quantization in ("nf4", "fp4"):
        found["double_quantization"] = model.double_quantization
    if packed := published_in_4_bits(config):  # they stay as they are, whatever a profile asks for
        found["quantization"] = packed.get("bnb_4bit_quant_type", "fp4")
        found["double_quantization"] = bool(packed.get("bnb_4bit_use_double_quant"))
    if "auto_map" in config:  # code that comes with the model decides what it computes
        found |= {"base": model.base, "revision": model.revision, "trust_remote_code": model.trust_remote_code}
    return found


def _method(method: Method) -> dict[str, object]:
    found: dict[str, object] = {"name": method.name}
    if method.learns_a_prompt:
        found["virtual_tokens"] = method.virtual_tokens
    elif method.name != "full":
        targets = method.targets
        found["targets"] = targets if isinstance(targets, str) else sorted(set(targets))
        found["modules_to_save"] = sorted(set(method.modules_to_save))
    if method.name == "lora":
        found |= {"rank": method.rank, "dora": method.dora, "bias": method.bias}
        found["dropout"] = SOME_DROPOUT if method.dropout else 0.0
    return found
