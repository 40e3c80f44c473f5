"""TRL's YAML (`trl sft --config`), and TrainingArguments as JSON. (Keys and defaults: trl/scripts/utils.py, trl/trainer/*_config.py.)"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from engine.errors import Problem
from engine.importing import trainer, trainer_keys
from engine.importing.carrying import Carry, names
from engine.importing.sources import place, source, split

TELLING: Final = frozenset(
    {"dataset_name", "use_peft", "max_length", "max_seq_length", "dtype", "torch_dtype", "dataset_config"}
)
"""Keys by which its configurations are known."""
NEEDLESS: Final = trainer_keys.NEEDLESS | {
    "dataset_num_proc": "it changes no result",
    "preprocessing_num_workers": "it changes no result",
    "eval_packing": "it changes no result",
    "pad_to_multiple_of": "it changes no result",
    "padding_free": "packing has no padding either: training.packing",
    "shuffle_dataset": "rows are always shuffled, by training.seed",
    "gradient_checkpointing_use_reentrant": "how activations are recomputed is chosen here",
    "lora_task_type": "language models are trained",
    "bnb_4bit_quant_storage": "loading is chosen here",
    "ignore_bias_buffers": "it changes no result",
    "precompute_ref_log_probs": "the reference's scores are always computed first",
    "disable_dropout": "preference losses have no dropout in the base; method.dropout is the adapter's",
    "generate_during_eval": "suites ask the model: evaluation.suites",
    "max_prompt_length": "the input is cut so that prompt and response fit template.max_tokens",
    "max_completion_length": "the input is cut so that prompt and response fit template.max_tokens",
    "model_code_revision": "model.revision is of code and weights",
}
UNSUPPORTED: Final = trainer_keys.UNSUPPORTED | {
    "chat_template": "save it as a .jinja file and name that in template.name",
    "eos_token": "the base's own end of a turn is used",
    "pad_token": "padding is never counted",
    "dataset_test_split": "validation rows are a share: split.validation; a test split: split.test = \"split:NAME\"",
    "dataset_streaming": "data sets are read whole, from files",
    "streaming": "data sets are read whole, from files",
    "dataset_kwargs": "rows are always prepared here",
    "model_init_kwargs": "the base is loaded as the profile says",
    "ref_model_init_kwargs": "the reference is the model as it began",
    "activation_offloading": "activations are recomputed, not moved: training.checkpoint_activations",
    "label_smoothing": "the loss is that of the paper, without more terms",
    "rpo_alpha": "the loss is that of the paper, without more terms",
    "ld_alpha": "the loss is that of the paper, without more terms",
    "loss_weights": "the loss is that of the paper, without more terms",
    "sync_ref_model": "the reference is the model as it began",
    "reference_free": "the reference is the model as it began",
    "use_logits_to_keep": "only what the loss needs goes through the output layer",
    "lora_target_parameters": "adapters are on modules: method.targets",
    "packing_strategy": "whole examples are packed, best fit first",
    "env": "variables are set in the shell",
}  # fmt: skip
PREFERENCE: Final = (
    "beta",
    "max_prompt_length",
    "precompute_ref_log_probs",
    "reference_free",
    "label_smoothing",
    "sync_ref_model",
)
PEFT_TARGETS: Final = ["q_proj", "v_proj"]
"""What PEFT adapts in Llama, Mistral and Qwen where nothing is named (peft/utils/constants.py)."""


def carry_over(carry: Carry) -> None:
    """Carry a configuration over.

    Raises:
        Problem: it trains by a loss that there is none for.
    """
    bare = not carry.has("model_name_or_path", "dataset_name", "datasets", "dataset_mixture", "dataset_mixer")
    objective = _objective(carry)
    carry.same("model_name_or_path", "model.base")
    carry.same("model_revision", "model.revision")
    carry.same("trust_remote_code", "model.trust_remote_code", carry.on("trust_remote_code"))
    _method(carry, bare=bare)
    half = carry.on("fp16")
    trainer.precision(carry, bfloat16=carry.on("bf16", not bare) and not half, half=half)
    for key in ("dtype", "torch_dtype"):
        carry.needless(key, "model.dtype is the compute type; frozen weights are kept in it")
    if carry.has("attn_implementation"):
        trainer.attention(carry, "attn_implementation")
    _data(carry)
    _rows(carry, bare=bare)
    trainer.gradient_checkpointing(carry, default=not bare)
    rate = 5e-5 if bare else 2e-5 if objective == "sft" else 1e-6
    trainer.carry_training(carry, rate=rate, per_step=8)
    if not carry.has("eval_strategy", "evaluation_strategy"):
        carry.assumed("split.validation", 0, "no evaluation is asked for: all rows train")
    carry.rest(NEEDLESS, UNSUPPORTED)


def _objective(carry: Carry) -> str:
    """TRL is told by a command (`trl sft`, `trl dpo`), so the file does not say; some keys are only dpo's."""
    objective = "dpo" if carry.has(*PREFERENCE) else "sft"
    loss = carry.get("loss_type", "nll" if objective == "sft" else "sigmoid")
    kinds = names(loss)
    if any(kind not in ("nll", "chunked_nll", "sigmoid", "sigmoid_norm") for kind in kinds):
        raise Problem(
            f"Nothing here trains by loss_type: {', '.join(kinds)}",
            "The objectives are sft, pretrain, dpo and orpo, each with the loss of its paper.",
            "A profile would train something else: nothing was carried over.",
            code="import",
        )
    if "sigmoid" in kinds or "sigmoid_norm" in kinds:
        objective = "dpo"
    if kinds == ["sigmoid_norm"]:
        carry.same("loss_type", "training.length_normalised", True)
    carry.needless("loss_type", "that is the loss here")
    if objective == "dpo":
        carry.assumed(
            "training.objective",
            "dpo",
            "the file does not say; it has keys that only dpo has. For orpo: training.objective",
        )
        carry.same("beta", "training.beta")
    return objective


def _method(carry: Carry, *, bare: bool) -> None:
    adapts = carry.on("use_peft", carry.has("lora_r", "lora_alpha"))
    carry.same("use_peft", "method.name", "lora" if adapts else "full")
    if not adapts:
        why = "without use_peft TRL trains all weights" if not bare else "the arguments of a Trainer name no adapter"
        carry.assumed("method.name", "full", why)
        for key in [name for name in carry.given if name.startswith("lora_") or name in ("use_rslora", "use_dora")]:
            carry.needless(key, "there is no adapter")
    else:
        carry.assumed("method.name", "lora", "it has keys of an adapter")
        carry.same("lora_r", "method.rank")
        carry.same("lora_alpha", "method.alpha")
        carry.same("lora_dropout", "method.dropout")
        carry.same("lora_modules_to_save", "method.modules_to_save", names(carry.get("lora_modules_to_save", "")))
        carry.same("use_rslora", "method.rslora", carry.on("use_rslora"))
        carry.same("use_dora", "method.dora", carry.on("use_dora"))
        targets = names(carry.get("lora_target_modules", ""))
        carry.same("lora_target_modules", "method.targets", "all-linear" if targets == ["all-linear"] else targets)
        carry.assumed("method.targets", PEFT_TARGETS, "PEFT's default for Llama, Mistral and Qwen")
    if carry.on("load_in_4bit"):
        carry.same("load_in_4bit", "model.quantization", carry.get("bnb_4bit_quant_type", "nf4"))
        carry.same("use_bnb_nested_quant", "model.double_quantization", carry.on("use_bnb_nested_quant"))
        carry.assumed("model.double_quantization", False, "their default")
    elif carry.on("load_in_8bit"):
        carry.same("load_in_8bit", "model.quantization", "int8")
    for key in ("load_in_4bit", "load_in_8bit", "bnb_4bit_quant_type", "use_bnb_nested_quant"):
        carry.needless(key, "model.quantization says it")


def _mixture(carry: Carry) -> bool:
    """The alignment handbook's ways of naming several data sets with weights, in place of TRL's own; whether there were any."""
    mixture, mixer = carry.get("dataset_mixture"), carry.get("dataset_mixer")
    if isinstance(mixture, Mapping):
        inside = carry.inside({str(name): value for name, value in mixture.items()}, "dataset_mixture")
        listed = inside.get("datasets")
        for number, one in enumerate(listed if isinstance(listed, list) else []):
            if isinstance(one, Mapping):
                each = inside.inside({str(name): value for name, value in one.items()}, f"datasets.{number}")
                each.same("id", f"data.{number}.source", place(str(each.get("id", "")), carry.folder))
                each.same("config", f"data.{number}.subset")
                split(each, "split", f"data.{number}")
                each.same("weight", f"data.{number}.weight")
                each.rest({"columns": "data.columns says what they hold"}, {})
        inside.opened("datasets")
        trainer.validation(inside, "test_split_size")
        inside.rest({"seed": "split.seed says which rows go where"}, {})
        carry.opened("dataset_mixture")
    elif isinstance(mixer, Mapping):
        for number, (name, weight) in enumerate(mixer.items()):
            carry.values |= {f"data.{number}.source": place(str(name), carry.folder), f"data.{number}.weight": weight}
        carry.same("dataset_mixer", "data.0.weight", carry.values["data.0.weight"])
        splits = names(carry.get("dataset_splits", "train"))
        taken = {f"data.{number}.split": splits[0] for number in range(len(mixer))}
        if len(splits) > 1:
            carry.changed(
                "dataset_splits", taken, "trained on the first; validation rows are a share of it: split.validation"
            )
        carry.same("dataset_splits", "data.0.split", splits[0])
        carry.values |= taken
    return isinstance(mixture, Mapping) or isinstance(mixer, Mapping)


def _data(carry: Carry) -> None:
    if _mixture(carry):
        return
    given = carry.get("datasets")
    if isinstance(given, list) and given:
        for number, one in enumerate(given):
            if not isinstance(one, Mapping):
                carry.left("datasets", "a list of tables is wanted")
                continue
            inner = carry.inside({str(name): value for name, value in one.items()}, f"datasets.{number}")
            to = source(inner, number)
            inner.same("name", f"{to}.subset")
            split(inner, "split", to)
            inner.rest({"columns": "data.columns says what they hold"}, {"data_dir": "name the files: data.source"})
        carry.opened("datasets")
        for key in ("dataset_name", "dataset_config", "dataset_train_split"):
            carry.needless(key, "datasets says it")
        carry.same("test_split_size", "split.validation")
        return
    carry.same("dataset_name", "data.0.source", place(str(carry.get("dataset_name", "")), carry.folder))
    carry.same("dataset_config", "data.0.subset")
    split(carry, "dataset_train_split", "data.0")
    if carry.has("dataset_text_field"):
        why = "plain text is learned from, as pretraining does"
        text = {"data.0.columns": {"text": carry.get("dataset_text_field")}, "training.objective": "pretrain"}
        carry.changed("dataset_text_field", text, why)


def _rows(carry: Carry, *, bare: bool) -> None:
    """Length, packing, and which tokens the loss counts."""
    why = "longer rows lose input only; there the end is cut"
    for key in ("max_length", "max_seq_length"):
        carry.changed(key, {"template.max_tokens": carry.get(key)}, why)
    carry.needless("truncation_mode", "the input is cut: template.too_long")
    if not bare:
        carry.assumed("template.max_tokens", 1024, "their default")
    carry.same("packing", "training.packing", carry.on("packing"))
    if not bare:
        carry.assumed("training.packing", False, "their default")
    path = str(carry.get("chat_template_path", ""))
    if path.endswith((".jinja", ".jinja2")):
        carry.same("chat_template_path", "template.name", place(path, carry.folder))
    carry.left("chat_template_path", "save the template as a .jinja file and name that in template.name")
    only = {key: carry.on(key) for key in ("assistant_only_loss", "completion_only_loss") if carry.has(key)}
    for key in only:
        carry.same(key, "training.loss_on", "responses" if any(only.values()) else "all")
    if not only and not bare and carry.values.get("training.objective") is None:
        carry.assumed(
            "training.loss_on", "responses", "TRL counts prompts too where rows are conversations: loss_on = all does"
        )
