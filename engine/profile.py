"""A run's whole configuration: typed, frozen, with each value's range and meaning beside it.

The form, the help texts, the validation and the resolved profile in the ledger all come from these classes. Reading and
writing TOML, with errors that name file and line, is `engine.profile_file`. A *resolved* profile has no "auto" left in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Auto = Literal["auto"]
Every = Literal["epoch"] | Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, lt=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, strict=False)


class Model(_Part):
    """The base model and how it is loaded."""

    base: str = Field(
        description="A hub id, a local folder, or another run (run:NAME) to go on from its result.", min_length=1
    )
    revision: str = Field("main", description="Branch, tag or commit on the hub.")
    quantization: Literal["none", "nf4", "fp4"] = Field(
        "none", description="4-bit base weights: nf4 is the usual choice; needs method lora."
    )
    double_quantization: bool = Field(
        True, description="Quantise the quantisation constants too: about 0.4 bits a weight less."
    )
    dtype: Literal["bfloat16", "float16", "float32"] = Field(
        "bfloat16",
        description="The compute type; adapters are always float32. float16 only for cards without bfloat16.",
    )
    attention: Literal["auto", "sdpa", "eager", "flash"] = Field(
        "auto", description="The attention kernel; auto takes sdpa."
    )
    trust_remote_code: bool = Field(
        False,
        description="Run Python code that comes with the model. Only for models that you trust as you trust a program.",
    )


class Data(_Part):
    """One source of examples."""

    source: str = Field(
        description="A file (.jsonl, .json, .csv, .parquet), a folder, a glob, or a hub id.", min_length=1
    )
    subset: str = Field("", description="Of a hub data set.")
    split: str = Field("train", description="Of a hub data set.")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Which columns hold what: instruction, input, response, system, label, id; or messages. "
        '"{a}. {b}" joins columns. Empty: guessed from the names.',
    )
    weight: float = Field(1.0, gt=0, le=1000, description="How often its rows are seen, relative to the other sources.")


class Template(_Part):
    """How an example becomes text."""

    name: str = Field(
        "chat",
        description="chat: the model's own; alpaca or plain for bases that have none; or a .jinja file.",
        min_length=1,
    )
    system: str = Field("", description="The system message, where the data have none.")
    thinking: Literal["keep", "empty", "strip"] = Field(
        "keep", description="What to do with thinking blocks in the data; the same at evaluation."
    )
    max_tokens: Auto | Annotated[int, Field(ge=16, le=1_048_576)] = Field(
        "auto", description="Of one example. auto: the 99th percentile of the data, within the model."
    )
    too_long: Literal["cut_input", "drop", "fail"] = Field(
        "cut_input",
        description="cut_input shortens the input only, never instruction or response; drop leaves the row out; "
        "fail stops.",
    )


class Split(_Part):
    """What is kept away from training."""

    test: Share | Literal[0] | str = Field(
        0,
        description="Held out for evaluation: a share, a file of ids (.json, .txt), or split:NAME of a hub data set; "
        "0 for none.",
    )
    validation: Share | Literal[0] = Field(
        0.1, description="Share of the rest that validation loss is measured on; 0 for none."
    )
    stratify: str = Field("", description="A column whose values each part holds in equal shares.")
    seed: int = Field(7, ge=0, le=2**31 - 1, description="Which rows go where.")


class Method(_Part):
    """What is trained."""

    name: Literal["full", "lora"] = Field(
        "lora", description="full trains every weight; lora a small adapter beside them."
    )
    rank: int = Field(
        16, ge=1, le=1024, description="4-32 for slight adaptation, 32-64 usual, 128-256 for much new capacity."
    )
    alpha: float = Field(32, gt=0, le=4096, description="Scale of the adapter; usually 2 x rank.")
    dropout: float = Field(0.05, ge=0, lt=1, description="Of the adapter's input: 0.05-0.1 against overfitting.")
    targets: Literal["all-linear"] | tuple[str, ...] = Field(
        "all-linear", description="Modules that get an adapter: all-linear, or names such as q_proj and v_proj."
    )
    dora: bool = Field(False, description="Train magnitude and direction apart: often a little better, slower.")
    rslora: bool = Field(False, description="Scale by alpha / sqrt(rank): steadier at high ranks.")


class EarlyStopping(_Part):
    """Stop when validation loss no longer falls."""

    patience: int = Field(3, ge=1, le=1000, description="Validations without a new best before the run stops.")


class Training(_Part):
    """How it is trained."""

    objective: Literal["sft"] = Field("sft", description="Supervised fine-tuning.")
    loss_on: Literal["responses", "all"] = Field("responses", description="Which tokens the loss counts.")
    epochs: float = Field(3, gt=0, le=1000, description="Passes over the data: 2-5 usual.")
    max_steps: int | None = Field(None, ge=1, description="Optimizer steps, in place of epochs.")
    effective_batch: int = Field(
        16, ge=1, le=65_536, description="Examples per optimizer step, whatever the micro-batch."
    )
    micro_batch: Auto | Annotated[int, Field(ge=1, le=65_536)] = Field(
        "auto", description="Rows per forward pass; auto takes what fits the GPU."
    )
    packing: Auto | Literal[False] = Field(
        "auto", description="Several examples in one row. Not available yet: auto means off."
    )
    learning_rate: float = Field(2e-4, gt=0, le=1, description="lora 1e-4 to 5e-4 (2e-4 usual), full 1e-5 to 5e-5.")
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="How the rate falls after warm-up.")
    warmup_ratio: float = Field(0.03, ge=0, lt=1, description="Share of the steps in which the rate rises: 0.03-0.10.")
    weight_decay: float = Field(0.01, ge=0, le=1, description="0.001-0.1; norms and biases are left alone.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit", "adafactor"] = Field(
        "adamw", description="8-bit states save memory; paged ones survive peaks on NVIDIA GPUs."
    )
    checkpoint_activations: Auto | bool = Field(
        "auto",
        description="Recompute activations: much less memory, about a fifth slower. "
        "auto: when it does not fit otherwise.",
    )
    evaluate_every: Every = Field("epoch", description="Validation after each epoch, or every so many steps.")
    save_every: Every = Field("epoch", description="A checkpoint after each epoch, or every so many steps.")
    keep: int = Field(2, ge=1, le=1000, description="Newest checkpoints kept, besides the best.")
    early_stopping: EarlyStopping | None = Field(
        None, description="Stop when validation loss no longer falls, as { patience = 3 }."
    )
    deterministic: bool = Field(
        False, description="Bit-identical results on CUDA, at a price in speed. CPU runs always are."
    )
    seed: int = Field(7, ge=0, le=2**31 - 1, description="Of initial adapter weights, order and dropout.")


class Hardware(_Part):
    """Where it runs."""

    gpus: Auto | tuple[str | int, ...] = Field("auto", description="auto, or UUIDs or indices.")
    device: Auto | Literal["cuda", "cpu"] = Field(
        "auto", description="auto is the GPU; where there is one, cpu has to be asked for."
    )
    headroom_mib: int = Field(512, ge=0, le=1_000_000, description="GPU memory that is to stay free, in MiB.")


class Evaluation(_Part):
    """What is asked of the model afterwards."""

    suites: tuple[str, ...] = Field(
        (), description="Names of suites that ship, .jsonl files, or test: the rows this run held out."
    )


class Profile(_Part):
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
        if self.model.quantization != "none" and self.method.name == "full":
            raise ValueError(
                "method.name = full cannot train a quantised base: use method.name = lora or model.quantization = none"
            )
        micro = self.training.micro_batch
        if isinstance(micro, int) and self.training.effective_batch % micro:
            raise ValueError(
                f"training.effective_batch = {self.training.effective_batch} is not a multiple of "
                f"training.micro_batch = {micro}"
            )
        return self


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
