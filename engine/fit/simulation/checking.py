"""What cannot be simulated is refused at once: a configuration that lacks what decides its size, and sizes that no machine has.

Configuration classes fill in what a config.json does not say, with the sizes of the first model of their kind; a step of that model would be
simulated, and nobody would notice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import ValidationError
from transformers import PreTrainedConfig

from engine.errors import Problem
from engine.fit.question import Question
from engine.fit.shapes import MOST

SAID: Final = ("hidden_size", "num_hidden_layers")
"""What every config.json says itself; some leave other sizes to their class."""
UNPACKED: Final = ("mxfp4",)
"""Quantisations that transformers undoes as it loads a model to train it."""
MOST_TOKENS: Final = 2**22
"""Of a micro-batch. Its places are laid out with real numbers, and no GPU holds what a model makes of so many."""
MOST_RANKS: Final = 2**14


def check(question: Question) -> None:
    """See that the step has a size, and one that can be.

    Raises:
        Problem: code `size`.
    """
    step, machine = question.step, question.machine
    for name, size, least, most in (
        ("rows of a micro-batch", step.rows, 1, MOST_TOKENS),
        ("tokens of a row", step.tokens, 2, MOST_TOKENS),
        ("tokens of a micro-batch", step.rows * step.tokens, 2, MOST_TOKENS),
        ("supervised tokens of a micro-batch", step.supervised, 0, MOST_TOKENS),
        ("ranks", machine.ranks, 1, MOST_RANKS),
    ):
        if not least <= size <= most:
            raise Problem(
                f"A step with {size:,} {name} cannot be simulated",
                f"There are {least:,} to {most:,} of them.",
                "Change training.micro_batch, training.row_tokens, template.max_tokens or hardware.gpus.",
                code="size",
            )


def no_profile(error: ValidationError) -> Problem:
    """What is said of a value that no profile can have."""
    errors = error.errors()
    first = next((each for each in errors if each["type"] != "literal_error"), errors[0])  # not: "should be 'auto'"
    return Problem(
        f"A step with {'.'.join(map(str, first['loc'][:2]))} = {first['input']!r} cannot be simulated",
        f"{first['msg']}.",
        "Change it in the profile.",
        code="size",
    )


def check_sizes(kind: str, given: Mapping[str, object]) -> None:
    """See that no size is far beyond any model, before a configuration is made that lists its layers.

    Raises:
        Problem: code `model`.
    """
    for name, value in given.items():
        if isinstance(value, Mapping):
            check_sizes(kind, value)
        elif isinstance(value, int) and value > MOST.get(name, value):
            raise _not_whole(kind, f"{name} is {value!r}, and should be 1 to {MOST[name]:,}.")


def check_configuration(found: PreTrainedConfig, given: Mapping[str, object]) -> None:
    """See that the config.json, of which `found` was made, says how large the model is.

    Raises:
        Problem: code `model`: it does not, or says what cannot be.
    """
    text = found.get_text_config()
    aliases: Mapping[str, str] = text.attribute_map
    values = text.to_dict()
    sizes = {name: values.get(name, values.get(aliases.get(name, name))) for name in (*SAID, *MOST)}
    said = set(_keys(given))
    if missing := [name for name in SAID if sizes[name] is not None and not {name, aliases.get(name)} & said]:
        raise _not_whole(found.model_type, f"It lacks {' and '.join(missing)}.")
    for name, most in MOST.items():
        size = sizes[name]
        for number in size if isinstance(size, (list, tuple)) else (size,):
            if number is not None and (not isinstance(number, int) or not 1 <= number <= most):
                raise _not_whole(found.model_type, f"{name} is {number!r}, and should be 1 to {most:,}.")
    heads, shared = sizes["num_attention_heads"], sizes["num_key_value_heads"]
    if isinstance(heads, int) and isinstance(shared, int) and heads % shared:
        raise _not_whole(found.model_type, f"{heads} attention heads cannot share {shared} heads of keys and values.")
    _check_not_packed(given)


def _check_not_packed(given: Mapping[str, object]) -> None:
    """Of weights that were published in 4 or 8 bits no more is known than that; MXFP4 is unpacked to be trained."""
    packed = given.get("quantization_config")
    kind = packed.get("quant_method") if isinstance(packed, Mapping) else None
    if kind and kind not in UNPACKED:
        raise Problem(
            "The memory of weights that are quantised already cannot be simulated",
            f"They were published as {kind}.",
            "Choose the base that they were made of, and let model.quantization quantise it.",
            code="model",
        )


def _keys(given: Mapping[str, object]) -> Iterator[str]:
    """All keys, those of a language model inside of another among them."""
    for key, value in given.items():
        yield key
        if isinstance(value, Mapping) and key.endswith("_config"):
            yield from _keys(value)


def _not_whole(kind: str, why: str) -> Problem:
    return Problem(
        f"The config.json of this {kind} is not whole", why, "Download or save the model again.", code="model"
    )
