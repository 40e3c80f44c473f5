"""LLaMA-Factory's YAML or JSON. (Keys, meanings and defaults: src/llamafactory/hparams and data/README.md of hiyouga/LLaMA-Factory.)"""

from __future__ import annotations

from typing import Final

from engine.errors import Problem
from engine.importing import trainer, trainer_keys
from engine.importing.carrying import Carry, names
from engine.importing.llama_data import data_sets

TELLING: Final = frozenset({"stage", "finetuning_type", "template", "cutoff_len", "lora_rank", "lora_target"})
"""Keys by which its configurations are known."""
NEEDLESS: Final = trainer_keys.NEEDLESS | {
    "overwrite_cache": "prepared data are named by what they were made from",
    "preprocessing_num_workers": "it changes no result",
    "preprocessing_batch_size": "it changes no result",
    "tokenized_path": "prepared data are kept in the run's folder",
    "plot_loss": "Monitor draws it",
    "use_fast_tokenizer": "tokenizers are always the fast ones",
    "low_cpu_mem_usage": "loading is chosen here",
    "cache_dir": "HF_HOME says where the hub's files are",
    "enable_liger_kernel": "a kernel of another library; the result is the same but for rounding",
    "use_unsloth_gc": "how activations are recomputed is chosen here",
    "use_reentrant_gc": "how activations are recomputed is chosen here",
    "print_param_status": "Monitor's log names what trains",
    "ignore_pad_token_for_loss": "padding is never counted",
    "predict_with_generate": "suites ask the model: evaluation.suites",
    "include_effective_tokens_per_second": "tokens are always counted",
    "ms_hub_token": "only Hugging Face's hub is asked",
    "om_hub_token": "only Hugging Face's hub is asked",
    "quantization_method": "bitsandbytes is the one that is used",
    "quantization_device_map": "loading is chosen here",
    "freeze_vision_tower": "only text models are trained",
    "freeze_multi_modal_projector": "only text models are trained",
    "create_new_adapter": "an adapter is always new, or a run's",
}
UNSUPPORTED: Final = trainer_keys.UNSUPPORTED | {
    "adapter_name_or_path": "to go on from an adapter: model.base = \"run:NAME\", for a run of Workbench",
    "max_samples": "a data set is taken whole; split.validation and split.test hold rows back",
    "mask_history": "every answer of a conversation is learned",
    "mix_strategy": "rows of all sources are mixed by data.weight",
    "interleave_probs": "rows of all sources are mixed by data.weight",
    "streaming": "data sets are read whole, from files",
    "buffer_size": "data sets are read whole, from files",
    "eval_dataset": "validation rows are a share: split.validation",
    "compute_accuracy": "suites ask the model: evaluation.suites",
    "tool_format": "the base's own chat template writes tools",
    "pissa_init": "LoRA begins as PEFT's default has it",
    "pissa_iter": "LoRA begins as PEFT's default has it",
    "loraplus_lr_ratio": "there is one learning rate",
    "use_galore": "optimizers are adamw, adamw_8bit, paged_adamw_8bit and adafactor",
    "use_apollo": "optimizers are adamw, adamw_8bit, paged_adamw_8bit and adafactor",
    "use_badam": "optimizers are adamw, adamw_8bit, paged_adamw_8bit and adafactor",
    "use_adam_mini": "optimizers are adamw, adamw_8bit, paged_adamw_8bit and adafactor",
    "use_muon": "optimizers are adamw, adamw_8bit, paged_adamw_8bit and adafactor",
    "use_llama_pro": "no layers are added",
    "use_unsloth": "the engine here trains",
    "use_dft_loss": "the loss is the usual one",
    "pref_ftx": "the loss is that of the paper, without more terms",
    "dpo_label_smoothing": "the loss is that of the paper, without more terms",
    "ld_alpha": "the loss is that of the paper, without more terms",
    "ref_model": "the reference is the model as it began",
    "rope_scaling": "the base's config.json is used as it is",
    "resize_vocab": "the tokenizer is used as it is",
    "add_tokens": "the tokenizer is used as it is: save one with these tokens beside the base",
    "add_special_tokens": "the tokenizer is used as it is: save one with these tokens beside the base",
    "shift_attn": "kernels here are sdpa, eager and flash",
    "mixture_of_depths": "the base's config.json is used as it is",
    "moe_aux_loss_coef": "the loss has no term for routers",
    "train_from_scratch": "a base is always loaded with its weights",
    "disable_shuffling": "rows are always shuffled, by training.seed",
    "use_swanlab": "metrics go to the ledger, and to tensorboard, wandb, trackio if asked",
    "upcast_layernorm": "norms are kept as the base has them",
    "early_stopping_steps": "training.early_stopping = { patience = 3 } counts validations",
    "pure_bf16": "all weights that train are float32 here",
}  # fmt: skip
STAGES: Final = {"sft": "sft", "pt": "pretrain", "dpo": "dpo", "orpo": "orpo"}


def carry_over(carry: Carry) -> None:
    """Carry a configuration over.

    Raises:
        Problem: it trains by a stage, loss or method that there is none for.
    """
    carry.same("model_name_or_path", "model.base")
    carry.same("model_revision", "model.revision")
    carry.same("trust_remote_code", "model.trust_remote_code", carry.on("trust_remote_code"))
    _objective(carry)
    _method(carry)
    _quantization(carry)
    trainer.precision(carry, bfloat16=carry.on("bf16") or carry.on("pure_bf16"), half=carry.on("fp16"))
    trainer.attention(carry, "flash_attn")
    data_sets(carry)
    _template(carry)
    off = carry.on("disable_gradient_checkpointing")
    carry.same("disable_gradient_checkpointing", "training.checkpoint_activations", not off)
    trainer.gradient_checkpointing(carry, default=True)
    trainer.validation(carry, "val_size")
    trainer.carry_training(carry, rate=5e-5, per_step=8)
    carry.rest(NEEDLESS, UNSUPPORTED)


def _objective(carry: Carry) -> None:
    stage, loss = str(carry.get("stage", "sft")), str(carry.get("pref_loss", "sigmoid"))
    objective = "orpo" if stage == "dpo" and loss == "orpo" else STAGES.get(stage)
    if objective is None or (objective == "dpo" and loss != "sigmoid"):
        asked = f"stage: {stage}" if objective is None else f"pref_loss: {loss}"
        raise Problem(
            f"Nothing here trains by {asked}",
            "The objectives are sft, pretrain, dpo and orpo.",
            "A profile would train something else: nothing was carried over.",
            code="import",
        )
    carry.same("stage", "training.objective", objective)
    carry.same("pref_loss", "training.objective", objective)
    for key in ("pref_beta", "dpo_beta", "orpo_beta"):  # the older names of one key
        carry.same(key, "training.beta")
    if objective == "sft":
        carry.same("train_on_prompt", "training.loss_on", "all" if carry.on("train_on_prompt") else "responses")


def _method(carry: Carry) -> None:
    method = str(carry.get("finetuning_type", "lora"))
    if method not in ("lora", "full"):
        raise Problem(
            f"There is no method for finetuning_type: {method}", "lora and full are carried over.", code="import"
        )
    carry.same("finetuning_type", "method.name", method)
    carry.assumed("method.name", method, "their default")
    if method == "full":
        for key in [name for name in carry.given if name.startswith("lora_") or name == "additional_target"]:
            carry.needless(key, "there is no adapter")
        return
    carry.same("lora_rank", "method.rank")
    carry.assumed("method.rank", 8, "their default")
    carry.same("lora_alpha", "method.alpha")
    rank = carry.values["method.rank"]
    if isinstance(rank, int):
        carry.assumed("method.alpha", 2 * rank, "their default: twice the rank")
    carry.same("lora_dropout", "method.dropout")
    carry.assumed("method.dropout", 0.0, "their default")
    targets = names(carry.get("lora_target", "all"))
    carry.same("lora_target", "method.targets", "all-linear" if targets == ["all"] else targets)
    carry.same("additional_target", "method.modules_to_save", names(carry.get("additional_target", "")))
    carry.same("use_dora", "method.dora", carry.on("use_dora"))
    carry.same("use_rslora", "method.rslora", carry.on("use_rslora"))


def _quantization(carry: Carry) -> None:
    bits = carry.get("quantization_bit")
    if carry.get("quantization_method", "bnb") not in ("bnb", "bitsandbytes", "BNB"):
        carry.left("quantization_method", "bitsandbytes is the one that is used")
    if bits == 4:
        carry.same("quantization_bit", "model.quantization", carry.get("quantization_type", "nf4"))
        carry.needless("quantization_type", "quantization_bit says it")
        carry.same("double_quantization", "model.double_quantization", carry.on("double_quantization", True))
    elif bits == 8:
        carry.same("quantization_bit", "model.quantization", "int8")
    carry.left("quantization_bit", "4 and 8 bits are offered")
    for key in ("quantization_type", "double_quantization"):
        carry.needless(key, "nothing is quantised to 4 bits")


def _template(carry: Carry) -> None:
    named = str(carry.get("template", ""))
    if named in ("alpaca", "empty"):
        why = f"the built-in {'plain' if named == 'empty' else named}; white space may differ"
        carry.changed("template", {"template.name": "plain" if named == "empty" else named}, why)
    else:
        carry.changed(
            "template", {"template.name": "chat"}, f"the base's own chat template, not LLaMA-Factory's {named}"
        )
    carry.same("default_system", "template.system")
    thinking = "keep" if carry.on("enable_thinking", True) else "empty"
    carry.same("enable_thinking", "template.thinking", thinking)
    carry.changed(
        "cutoff_len",
        {"template.max_tokens": carry.get("cutoff_len")},
        "longer rows lose input only; there responses are cut too",
    )
    carry.assumed("template.max_tokens", 2048, "their default")
    packs = carry.on("neat_packing") or carry.on("packing", carry.values.get("training.objective") == "pretrain")
    if packs and not carry.on("neat_packing"):
        carry.changed("packing", {"training.packing": True}, "examples of a row never see each other; there they do")
    carry.same("neat_packing", "training.packing", packs)
    carry.same("packing", "training.packing", packs)
    carry.assumed("training.packing", packs, "their default")
