"""The parts of a profile, each value with its range and meaning beside it. `engine.profile` puts them together."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Auto = Literal["auto"]
Every = Literal["epoch"] | Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, lt=1)]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, strict=False)


class Model(Part):
    """The base model and how it is loaded."""

    base: str = Field(
        description="A hub id, a local folder, or another run (run:NAME) to go on from its result.", min_length=1
    )
    revision: str = Field("main", description="Branch, tag or commit on the hub.")
    quantization: Literal["none", "nf4", "fp4", "int8"] = Field(
        "none", description="The frozen base in 4 bits (nf4 is the usual choice) or 8; not with method full."
    )
    double_quantization: bool = Field(
        True, description="Quantise the quantisation constants too: about 0.4 bits a weight less."
    )
    dtype: Literal["bfloat16", "float16", "float32"] = Field(
        "bfloat16",
        description="The compute type; adapters are always float32. float16 only for cards without bfloat16; GPUs multiply "
        "float32 as TF32.",
    )
    attention: Literal["auto", "sdpa", "eager", "flash"] = Field(
        "auto", description="The attention kernel; auto takes sdpa."
    )
    trust_remote_code: bool = Field(
        False,
        description="Run Python code that comes with the model. Only for models that you trust as you trust a program.",
    )


class Data(Part):
    """One source of examples."""

    source: str = Field(
        description="A file (.jsonl, .json, .csv, .parquet, .txt), a folder, a glob, or a hub id.", min_length=1
    )
    subset: str = Field("", description="Of a hub data set.")
    split: str = Field("train", description="Of a hub data set.")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Which columns hold what: instruction, input, response, system, label, id; or messages, tools; chosen "
        'and rejected for preferences; text for pretraining. "{a}. {b}" joins columns. Empty: guessed from the names.',
    )
    weight: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="How often its rows are seen in an epoch: 1 once, 2 twice, 0.5 half of them.",
    )


class Template(Part):
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


class Split(Part):
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


class Method(Part):
    """What is trained."""

    name: Literal["full", "lora", "ia3", "prefix", "p_tuning", "prompt_tuning"] = Field(
        "lora",
        description="full trains every weight; lora a small adapter beside them; ia3 a scale for some activations; prefix, "
        "p_tuning and prompt_tuning virtual tokens before the text.",
    )
    rank: int = Field(
        16,
        ge=1,
        le=1024,
        description="Of lora: in how many directions an adapted matrix may change.",
    )
    alpha: float = Field(32, gt=0, le=4096, description="Of lora: the adapter's output is multiplied by alpha / rank.")
    dropout: float = Field(0.05, ge=0, lt=1, description="Of a lora adapter's input, against overfitting.")
    targets: Literal["all-linear"] | tuple[str, ...] = Field(
        "all-linear",
        description="Modules that get an adapter: all-linear, or names such as q_proj and v_proj. For ia3 all-linear means "
        "keys, values and the last layer of each feed-forward block.",
    )
    dora: bool = Field(
        False, description="Of lora: train magnitude and direction apart: often a little better, slower."
    )
    rslora: bool = Field(False, description="Of lora: scale by alpha / sqrt(rank): steadier at high ranks.")
    bias: Literal["none", "all", "lora_only"] = Field(
        "none", description="Of lora: biases that are trained too: none, all, or those of adapted modules."
    )
    modules_to_save: tuple[str, ...] = Field(
        (),
        description="Modules that are trained whole and saved with the adapter, such as embed_tokens and lm_head for new tokens.",
    )
    virtual_tokens: int = Field(
        20,
        ge=1,
        le=4096,
        description="Of prefix, p_tuning and prompt_tuning: tokens that are learned in place of weights.",
    )

    @property
    def learns_a_prompt(self) -> bool:
        """Whether virtual tokens before the text are what is trained: such rows never share a row with others."""
        return self.name in ("prefix", "p_tuning", "prompt_tuning")

    @property
    def bears_recomputation(self) -> bool:
        """Whether activations can be recomputed: what prefix learns stands in the cache, which recomputation drops."""
        return self.name != "prefix"


class EarlyStopping(Part):
    """Stop when validation loss no longer falls."""

    patience: int = Field(3, ge=1, le=1000, description="Validations without a new best before the run stops.")


class Training(Part):
    """How it is trained."""

    objective: Literal["sft", "pretrain", "dpo", "orpo"] = Field(
        "sft",
        description="sft learns responses; pretrain learns plain text; dpo and orpo learn to prefer the chosen of two responses.",
    )
    loss_on: Literal["responses", "all"] = Field(
        "responses", description="Which tokens the loss counts under sft: those of responses, or all."
    )
    beta: float = Field(
        0.1,
        gt=0,
        le=10,
        description="Of dpo: how closely it stays to the model it began with. Of orpo: the weight of preference.",
    )
    length_normalised: bool = Field(
        False, description="Of dpo: compare log-probabilities a token, so that longer is not better by itself."
    )
    epochs: float = Field(3, gt=0, le=1000, description="Passes over the data.")
    max_steps: int | None = Field(None, ge=1, description="Optimizer steps, in place of epochs.")
    effective_batch: int = Field(
        16, ge=1, le=65_536, description="Examples per optimizer step, whatever the micro-batch."
    )
    micro_batch: Auto | Annotated[int, Field(ge=1, le=65_536)] = Field(
        "auto", description="Rows per forward pass; auto takes what fits the GPU."
    )
    packing: Auto | bool = Field(
        "auto",
        description="Several examples in one row, which never see each other: no padding. auto: on where the model keeps them "
        "apart, which is tried at the start.",
    )
    row_tokens: Auto | Annotated[int, Field(ge=16, le=1_048_576)] = Field(
        "auto", description="Tokens of a packed row. auto: template.max_tokens."
    )
    learning_rate: float = Field(
        2e-4,
        gt=0,
        le=1,
        description="How far a step moves what is trained; what is usual depends on method and objective.",
    )
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="How the rate falls after warm-up.")
    warmup_ratio: float = Field(0.03, ge=0, lt=1, description="Share of the steps in which the rate rises.")
    weight_decay: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Pull towards zero; norms, biases, embeddings and the scales of ia3 are left alone.",
    )
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
    mirror: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = Field(
        (), description="Trackers that the metrics also go to while it trains: tensorboard, wandb, trackio."
    )


class Hardware(Part):
    """Where it runs."""

    gpus: Auto | tuple[str | int, ...] = Field("auto", description="auto, or UUIDs or indices.")
    device: Auto | Literal["cuda", "cpu"] = Field(
        "auto", description="auto is the GPU; where there is one, cpu has to be asked for."
    )
    ranks: Auto | Annotated[int, Field(ge=1, le=64)] = Field(
        "auto", description="Processes that train together. auto: one for each GPU of hardware.gpus, one on a CPU."
    )
    sharding: Auto | Literal["replicate", "shard"] = Field(
        "auto",
        description="With several GPUs: replicate (DDP) holds the model on each, shard (FSDP2) a part of it. auto: replicate "
        "while it fits.",
    )
    headroom_mib: int = Field(512, ge=0, le=1_000_000, description="GPU memory that is to stay free, in MiB.")


class Evaluation(Part):
    """What is asked of the model afterwards."""

    suites: tuple[str, ...] = Field(
        (), description="Names of suites that ship, .jsonl files, or test: the rows this run held out."
    )
