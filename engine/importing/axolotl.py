"""axolotl's YAML. (Keys, meanings and defaults: axolotl's configuration reference, docs.axolotl.ai, and src/axolotl/utils/schemas.)"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from engine.errors import Problem
from engine.importing import trainer, trainer_keys
from engine.importing.axolotl_data import data_sets
from engine.importing.carrying import Carry, names

TELLING: Final = frozenset({"base_model", "adapter", "sequence_len", "micro_batch_size", "num_epochs", "val_set_size"})
"""Keys by which its configurations are known."""

NEEDLESS: Final = trainer_keys.NEEDLESS | {
    "model_type": "the base's config.json says it",
    "tokenizer_type": "the base's tokenizer is read as it is",
    "is_llama_derived_model": "the base's config.json says it",
    "is_mistral_derived_model": "the base's config.json says it",
    "is_qwen_derived_model": "the base's config.json says it",
    "is_falcon_derived_model": "the base's config.json says it",
    "strict": "it changes no result",
    "dataset_prepared_path": "prepared data are kept in the run's folder",
    "dataset_processes": "it changes no result",
    "dataset_keep_in_memory": "it changes no result",
    "shuffle_merged_datasets": "rows are always shuffled, by training.seed",
    "pad_to_sequence_len": "rows are padded to the longest of their batch",
    "eval_sample_packing": "it changes no result",
    "sample_packing_group_size": "it changes no result",
    "sample_packing_bin_size": "it changes no result",
    "multipack_real_batches": "it changes no result",
    "eval_batch_size": "it changes no result",
    "wandb_project": 'with training.mirror = ["wandb"] wandb\'s own settings are used',
    "wandb_entity": 'with training.mirror = ["wandb"] wandb\'s own settings are used',
    "wandb_name": "a run is named when it is started",
    "wandb_run_id": "a run is named when it is started",
    "wandb_watch": "gradients' norms are in the ledger",
    "wandb_log_model": "nothing is uploaded",
    "wandb_mode": 'with training.mirror = ["wandb"] wandb\'s own settings are used',
    "lora_on_cpu": "loading is chosen here",
    "low_cpu_mem_usage": "loading is chosen here",
    "flash_attn_cross_entropy": "a kernel of another library; the result is the same but for rounding",
    "flash_attn_rms_norm": "a kernel of another library; the result is the same but for rounding",
    "lora_mlp_kernel": "a kernel of another library; the result is the same but for rounding",
    "lora_qkv_kernel": "a kernel of another library; the result is the same but for rounding",
    "lora_o_kernel": "a kernel of another library; the result is the same but for rounding",
    "gc_steps": "memory is fitted before the start",
    "ddp": "hardware.gpus says it",
    "eval_table_size": "suites ask the model: evaluation.suites",
    "eval_max_new_tokens": "suites ask the model: evaluation.suites",
    "hf_use_auth_token": "the hub's own login is used",
}
UNSUPPORTED: Final = trainer_keys.UNSUPPORTED | {
    "special_tokens": "the tokenizer is used as it is: save one with these tokens beside the base",
    "tokens": "the tokenizer is used as it is: save one with these tokens beside the base",
    "tokenizer_config": "the base's own tokenizer is used",
    "lora_model_dir": "to go on from an adapter: model.base = \"run:NAME\", for a run of Workbench",
    "lora_fan_in_fan_out": "it is told from the module",
    "lora_target_parameters": "adapters are on modules: method.targets",
    "peft_layers_to_transform": "adapters are on all layers",
    "peft_layers_pattern": "adapters are on all layers",
    "peft_init_lora_weights": "LoRA begins as PEFT's default has it",
    "peft_trainable_token_indices": "modules are trained whole: method.modules_to_save",
    "loraplus_lr_ratio": "there is one learning rate",
    "loraplus_lr_embedding": "there is one learning rate",
    "lr_groups": "there is one learning rate",
    "embedding_lr": "there is one learning rate",
    "embedding_lr_scale": "there is one learning rate",
    "loftq_config": "LoRA begins as PEFT's default has it",
    "gptq": "quantised when it is loaded, by bitsandbytes: model.quantization",
    "relora": "one adapter is trained, not one after another",
    "unfrozen_parameters": "method.name = full trains all weights",
    "test_datasets": "validation rows are a share: split.validation",
    "cosine_min_lr_ratio": "cosine falls to zero",
    "cosine_constant_lr_ratio": "cosine falls to zero",
    "lr_quadratic_warmup": "warm-up is linear",
    "rope_theta": "the base's config.json says it",
    "overrides_of_model_config": "the base's config.json is used as it is",
    "activation_offloading": "activations are recomputed, not moved: training.checkpoint_activations",
    "plugins": "nothing of axolotl is loaded",
    "eot_tokens": "the template's own end of a turn is used",
    "rpo_alpha": "the loss is that of the paper, without more terms",
    "dpo_use_weighting": "the loss is that of the paper, without more terms",
    "dataset_exact_deduplication": "duplicates are shown and cleaned on Data: workbench data",
    "sequence_parallel_degree": "a row is on one GPU",
    "context_parallel_size": "a row is on one GPU",
    "tensor_parallel_size": "a layer is on one GPU, or divided by FSDP2",
    "loss_watchdog_threshold": "a loss that is not finite is reported; early_stopping looks at validation",
    "loss_watchdog_patience": "a loss that is not finite is reported; early_stopping looks at validation",
    "bnb_config_kwargs": "a table is wanted",
    "max_memory": "hardware.headroom_mib says what stays free",
    "gpu_memory_limit": "hardware.headroom_mib says what stays free",
    "device_map": "a model is on one GPU, or divided by FSDP2",
    "freeze_mm_modules": "only text models are trained",
    "quantization": "results are exported, then quantised",
    "qat": "quantisation-aware training is not offered",
    "xformers_attention": "kernels here are sdpa, eager and flash",
    "s2_attention": "kernels here are sdpa, eager and flash",
    "flex_attention": "kernels here are sdpa, eager and flash",
}  # fmt: skip
OBJECTIVES: Final = {"dpo": "dpo", "orpo": "orpo"}


def carry_over(carry: Carry) -> None:
    """Carry a configuration over.

    Raises:
        Problem: it trains by what there is no objective for.
    """
    carry.same("base_model", "model.base")
    carry.same("revision_of_model", "model.revision")
    carry.same("trust_remote_code", "model.trust_remote_code", carry.on("trust_remote_code"))
    carry.needless("base_model_config", "the base's config.json is read")
    _objective(carry)
    _method(carry)
    _numbers(carry)
    data_sets(carry)
    _length(carry)
    carry.same("batch_size", "training.effective_batch")
    trainer.batch(carry, "micro_batch_size", 1)
    trainer.length(carry, "num_epochs", 1.0)
    trainer.optimizer(carry, "optimizer")
    trainer.schedule(carry, "lr_scheduler", "cosine")
    carry.same("learning_rate", "training.learning_rate")
    carry.same("weight_decay", "training.weight_decay")
    carry.assumed("training.weight_decay", 0.0, "their default")
    trainer.clipping(carry)
    carry.same("seed", "training.seed")
    carry.assumed("training.seed", 42, "their default")
    trainer.validation(carry, "val_set_size")
    _saving(carry)
    _mirror(carry)
    trainer.sharding(carry)
    carry.rest(NEEDLESS, UNSUPPORTED)


def _objective(carry: Carry) -> None:
    asked = carry.get("rl")
    if asked is not None and str(asked) not in OBJECTIVES:
        raise Problem(
            f"Nothing here trains by rl: {asked}",
            "The objectives are sft, pretrain, dpo and orpo.",
            "A profile would train something else: nothing was carried over.",
            code="import",
        )
    carry.same("rl", "training.objective", OBJECTIVES.get(str(asked)))
    for key in ("rl_beta", "dpo_beta", "orpo_alpha"):
        carry.same(key, "training.beta")
    if carry.has("train_on_inputs"):
        carry.same("train_on_inputs", "training.loss_on", "all" if carry.on("train_on_inputs") else "responses")


def _method(carry: Carry) -> None:
    adapter = carry.get("adapter")
    if adapter not in (None, "lora", "qlora"):
        raise Problem(f"There is no method for adapter: {adapter}", "lora and qlora are carried over.", code="import")
    carry.same("adapter", "method.name", "lora")
    carry.assumed("method.name", "full", "without an adapter axolotl trains all weights")
    if carry.values["method.name"] == "full":
        for key in [name for name in carry.given if name.startswith(("lora_", "peft_"))]:
            carry.needless(key, "there is no adapter")
        return
    carry.same("lora_r", "method.rank")
    carry.same("lora_alpha", "method.alpha")
    carry.same("lora_dropout", "method.dropout")
    carry.assumed("method.dropout", 0.0, "their default")
    carry.same("lora_modules_to_save", "method.modules_to_save")
    carry.same("peft_use_dora", "method.dora", carry.on("peft_use_dora"))
    carry.same("peft_use_rslora", "method.rslora", carry.on("peft_use_rslora"))
    if carry.on("lora_target_linear"):
        carry.same("lora_target_linear", "method.targets", "all-linear")
        if carry.has("lora_target_modules"):
            carry.left("lora_target_modules", "with lora_target_linear all linear layers are taken")
    carry.needless("lora_target_linear", "it is off")
    targets = carry.get("lora_target_modules")
    if isinstance(targets, str) and targets != "all-linear":
        carry.left("lora_target_modules", "module names are wanted, not a pattern: method.targets")
    elif targets is not None:
        carry.same("lora_target_modules", "method.targets", targets if isinstance(targets, str) else names(targets))


def _numbers(carry: Carry) -> None:
    """Quantisation, compute type, kernel, recomputation."""
    options = carry.get("bnb_config_kwargs")
    inner = carry.inside(options if isinstance(options, Mapping) else {}, "bnb_config_kwargs")
    four = carry.on("load_in_4bit")
    if four:
        carry.same("load_in_4bit", "model.quantization", inner.get("bnb_4bit_quant_type", "nf4"))
        inner.needless("bnb_4bit_quant_type", "load_in_4bit says it")
        inner.same("bnb_4bit_use_double_quant", "model.double_quantization")
    elif carry.on("load_in_8bit"):
        carry.same("load_in_8bit", "model.quantization", "int8")
    for key in ("load_in_4bit", "load_in_8bit"):
        carry.needless(key, "it is off")
    if isinstance(options, Mapping):
        inner.rest(
            {"bnb_4bit_compute_dtype": "model.dtype says it", "bnb_4bit_quant_storage": "loading is chosen here"}, {}
        )
        carry.opened("bnb_config_kwargs")
    half = carry.on("fp16") or carry.on("float16")
    wide = carry.get("bf16", "auto") in (True, "auto", "true", "full") or carry.on("bfloat16")
    trainer.precision(carry, bfloat16=wide and not half, half=half)
    for key in ("bfloat16", "float16", "float32"):
        carry.needless(key, "model.dtype says it")
    for key, kernel in (("flash_attention", "flash"), ("sdp_attention", "sdpa"), ("eager_attention", "eager")):
        if carry.on(key):
            carry.same(key, "model.attention", kernel)
        carry.needless(key, "it is off")
    if carry.has("attn_implementation"):
        trainer.attention(carry, "attn_implementation")
    trainer.gradient_checkpointing(carry, default=False)


def _length(carry: Carry) -> None:
    carry.same("sequence_len", "template.max_tokens")
    carry.assumed("template.max_tokens", 512, "their default")
    too_long = str(carry.get("excess_length_strategy", "drop"))
    if too_long == "truncate":
        carry.changed(
            "excess_length_strategy",
            {"template.too_long": "cut_input"},
            "the input is cut, never the response; there the end is",
        )
    else:
        carry.same("excess_length_strategy", "template.too_long", "fail" if too_long == "raise" else "drop")
        carry.assumed("template.too_long", "drop", "their default: longer rows are left out")
    packing = carry.on("sample_packing")
    carry.same("sample_packing", "training.packing", packing)
    carry.assumed("training.packing", packing, "their default")
    if packing:
        carry.values["training.row_tokens"] = carry.values["template.max_tokens"]


def _saving(carry: Carry) -> None:
    for what, to in (("evals", "training.evaluate_every"), ("saves", "training.save_every")):
        times = carry.get(f"{what}_per_epoch")
        if times == 1:
            carry.same(f"{what}_per_epoch", to, "epoch")
        else:
            carry.changed(f"{what}_per_epoch", {to: "epoch"}, f"once an epoch, or every so many steps: {to}")
    trainer.saving(carry)
    patience = carry.get("early_stopping_patience")
    carry.same("early_stopping_patience", "training.early_stopping.patience", patience)


def _mirror(carry: Carry) -> None:
    asked = [
        name
        for name, key in (("wandb", "wandb_project"), ("tensorboard", "use_tensorboard"))
        if carry.has(key) and carry.on(key, True)
    ]
    if carry.has("wandb_project"):
        carry.changed(
            "wandb_project", {"training.mirror": asked or ["wandb"]}, "metrics go to the ledger, and to wandb beside it"
        )
    if carry.on("use_tensorboard"):
        carry.same(
            "use_tensorboard", "training.mirror", [*(["wandb"] if carry.has("wandb_project") else []), "tensorboard"]
        )
    carry.needless("use_tensorboard", "it is off")
