"""A run's whole configuration: typed, frozen, with each value's range and meaning beside it (in `engine.profile_parts`).

The form, the help texts, the validation and the resolved profile in the ledger all come from these classes. Reading and
writing TOML, with errors that name file and line, is `engine.profile_file`. A *resolved* profile has no "auto" left in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import Field, model_validator

from engine.profile_parts import (
    Auto,
    Data,
    EarlyStopping,
    Evaluation,
    Every,
    Hardware,
    Method,
    Model,
    Part,
    Share,
    Split,
    Template,
    Training,
)

__all__ = [
    "Auto",
    "Data",
    "EarlyStopping",
    "Evaluation",
    "Every",
    "Hardware",
    "Method",
    "Model",
    "Part",
    "Profile",
    "Share",
    "Split",
    "Template",
    "Training",
    "changed",
    "flat",
    "flattened",
    "unresolved",
]


class Profile(Part):
    """Everything that decides what a run does."""

    title: str = Field("", max_length=200, description="For people.")
    model: Model
    data: tuple[Data, ...] = Field(min_length=1)
    template: Template = Template()
    split: Split = Split()
    method: Method = Method()
    training: Training = Training()
    hardware: Hardware = Hardware()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _possible(self) -> Profile:
        refuse(self.model, self.method, self.training)
        micro = self.training.micro_batch
        if isinstance(micro, int) and self.training.effective_batch % micro:
            raise ValueError(
                f"training.effective_batch = {self.training.effective_batch} is not a multiple of "
                f"training.micro_batch = {micro}"
            )
        return self


def refuse(model: Model, method: Method, training: Training) -> None:
    """See that base, method and training go together, as far as the profile tells; what the architecture must bear is `engine.compatible`'s.

    Raises:
        ValueError: they cannot, with the reason and what to change.
    """
    if model.quantization != "none" and method.name == "full":
        raise ValueError(
            "method.name = full cannot train a quantised base: use method.name = lora or model.quantization = none"
        )
    if method.learns_a_prompt and training.packing is True:
        raise ValueError(
            f"training.packing = true cannot go with method.name = {method.name}: examples that share a row would share its "
            "virtual tokens; set training.packing = false"
        )
    if training.checkpoint_activations is True and not method.bears_recomputation:
        raise ValueError(
            "training.checkpoint_activations = true cannot go with method.name = prefix: its keys and values stand in the cache, "
            "which recomputation drops; set training.checkpoint_activations = false"
        )
    for key, asked in (("dora", method.dora), ("rslora", method.rslora), ("bias", method.bias != "none")):
        if asked and method.name != "lora":
            value = "none" if key == "bias" else "false"
            raise ValueError(
                f"method.{key} is lora's and would do nothing with method.name = {method.name}: set method.{key} = {value}"
            )
    if method.modules_to_save and method.name not in ("lora", "ia3"):
        why = "which trains every module" if method.name == "full" else "which trains no modules of the base"
        raise ValueError(
            f"method.modules_to_save cannot go with method.name = {method.name}, {why}: set method.modules_to_save = []"
        )


def flat(profile: Profile) -> dict[str, object]:
    """The profile as dotted keys and plain values: `{"method.rank": 16, "data.0.source": ...}`, to diff and filter by."""
    return dict(flattened(profile.model_dump(mode="json")))


def flattened(value: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Nested values as dotted keys and plain values; tables in a list are numbered from 0."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flattened(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list) and value and all(isinstance(inner, dict) for inner in value):
        for place, inner in enumerate(value):
            yield from flattened(inner, f"{prefix}.{place}")
    else:
        yield prefix, value


def changed(profile: Profile, change: Mapping[str, object]) -> Profile:
    """The profile with values changed, given by dotted key (`method.rank`), and validated again.

    Raises:
        pydantic.ValidationError: it cannot be so.
    """
    values = profile.model_dump()
    for key, value in change.items():
        part, _, name = key.partition(".")
        values[part][name] = value
    return Profile.model_validate(values)


def unresolved(profile: Profile) -> list[str]:
    """Keys that still say auto."""
    return [key for key, value in flat(profile).items() if value == "auto"]
