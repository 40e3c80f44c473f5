"""What a method trains beside a frozen base, through PEFT: its weights in float32, whatever the base is in.

Adapters in 16 bits stop learning once updates round to nothing (trl#7268, torchtune#2250); the same holds of modules that are trained whole
and of biases.
"""

from __future__ import annotations

from typing import Final

from peft import (
    IA3Config,
    LoraConfig,
    PeftConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    PromptTuningInit,
    get_peft_model,
)
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from torch import nn
from transformers import PreTrainedModel

from engine import compatible
from engine.errors import Problem, closest
from engine.profile import Method
from engine.train import anatomy, quantized

CAUSAL: Final = "CAUSAL_LM"
ADAPTER: Final = "default"  # PEFT's name of the one adapter that a model has here


def attach(base: PreTrainedModel, method: Method, *, name: str, is_quantised: bool) -> PeftModel:
    """The base, frozen, with the method's fresh weights, drawn from torch's seed. `name` is the base's, for the result.

    Raises:
        Problem: a module that is not there, or a method that this architecture does not bear.
    """
    compatible.check(method, base.config.to_dict())
    config = _config(base, method)
    try:
        model = get_peft_model(base, config)
    except ValueError as error:
        raise Problem(
            f"method.name = {method.name} does not go with this base",
            str(error).splitlines()[0],
            'Change the method\'s settings, or set method.targets = "all-linear".',
            code="method",
        ) from error
    assert isinstance(model, PeftModel)
    if isinstance(config, LoraConfig) and config.target_parameters:
        _drop_out_beside_experts(model, method.dropout)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if is_quantised:
        quantized.add_trained_biases_outside(model)
        quantized.keep_type_of_scaled(model)
    model.peft_config[ADAPTER].base_model_name_or_path = name
    return model


def learns_a_prompt(model: nn.Module) -> bool:
    """Whether virtual tokens before the text are what is trained."""
    return isinstance(model, PeftModel) and bool(model.active_peft_config.is_prompt_learning)


def virtual_tokens(model: nn.Module) -> int:
    """Virtual tokens that stand before the text in the model's output now: none while the adapter is switched off, and those of prefix
    stand in its cache alone."""
    if not isinstance(model, PeftModel) or not learns_a_prompt(model) or model._adapters_disabled:
        return 0
    config = model.active_peft_config
    return 0 if isinstance(config, PrefixTuningConfig) else int(config.num_virtual_tokens)


def _config(base: PreTrainedModel, method: Method) -> PeftConfig:
    match method.name:
        case "lora":
            return _lora(base, method)
        case "ia3":
            return _ia3(base, method)
        case "prefix":
            return PrefixTuningConfig(task_type=CAUSAL, num_virtual_tokens=method.virtual_tokens)
    if method.name == "p_tuning":
        return PromptEncoderConfig(task_type=CAUSAL, num_virtual_tokens=method.virtual_tokens)
    # Embeddings of real tokens are a better start than noise (Lester et al. 2021, arXiv:2104.08691, section 3.2).
    return PromptTuningConfig(
        task_type=CAUSAL,
        num_virtual_tokens=method.virtual_tokens,
        prompt_tuning_init=PromptTuningInit.SAMPLE_VOCAB,
    )


def _lora(base: PreTrainedModel, method: Method) -> LoraConfig:
    linear, fused = anatomy.linear_names(base), anatomy.fused_experts(base)
    targets: str | list[str]
    if isinstance(method.targets, str):
        # What PEFT takes all-linear to mean differs where experts are fused: it misses them (gpt-oss), or adapts the router as well and
        # doubles the rank (Mixtral, Qwen's), and refuses dropout either way. Here it means the linear modules and the experts.
        targets, experts = (_but_the_head(base, linear), list(fused)) if fused else (method.targets, [])
    else:
        _check_there(method.targets, (*linear, *fused), "method.targets", base)
        targets = [target for target in method.targets if anatomy.named_like(linear, target)]
        experts = [target for target in method.targets if anatomy.named_like(fused, target)]
    if experts and method.dora:
        raise compatible.dora_on_experts()
    whole = _whole(base, method)
    return LoraConfig(
        task_type=CAUSAL,
        r=method.rank,
        lora_alpha=method.alpha,  # type: ignore[arg-type]  # any number; declared as int
        lora_dropout=0.0 if experts else method.dropout,
        target_modules=targets,
        target_parameters=experts or None,
        use_dora=method.dora,
        use_rslora=method.rslora,
        bias=method.bias,
        modules_to_save=whole,
        ensure_weight_tying=bool(whole) and _is_tied(base, method),
    )


def _but_the_head(base: PreTrainedModel, linear: tuple[str, ...]) -> list[str]:
    head = base.get_output_embeddings()  # type: ignore[no-untyped-call]
    return [name for name in linear if base.get_submodule(name) is not head]


def _drop_out_beside_experts(model: PeftModel, share: float) -> None:
    """Drop out inputs of linear modules. PEFT has no dropout for fused experts and refuses it for all where they are adapted."""
    for module in model.modules():
        if isinstance(module, LoraLayer) and not isinstance(module, ParamWrapper):
            module.lora_dropout[ADAPTER] = nn.Dropout(share) if share else nn.Identity()


def _ia3(base: PreTrainedModel, method: Method) -> IA3Config:
    linear = anatomy.linear_names(base)
    if isinstance(method.targets, str):
        wanted = (*anatomy.KEYS_AND_VALUES, *anatomy.FEED_FORWARD_OUTPUTS)
        targets = [name for name in wanted if anatomy.named_like(linear, name)]
        if not targets:
            raise Problem(
                f"Where {type(base).__name__} has its keys and values is not known",
                f"Linear modules are {', '.join(_last_names(linear))}.",
                "Name those that ia3 is to scale in method.targets.",
                code="method",
            )
    else:
        _check_there(method.targets, linear, "method.targets", base)
        targets = list(method.targets)
    outputs = {name for known in anatomy.FEED_FORWARD_OUTPUTS for name in anatomy.named_like(linear, known)}
    whole = _whole(base, method)
    if whole and _is_tied(base, method):
        raise Problem(
            "ia3 cannot save the embeddings of this model",
            "Its head is its embedding, and PEFT keeps the two together for lora alone.",
            "Set method.modules_to_save = [], or method.name = lora.",
            code="method",
        )
    return IA3Config(
        task_type=CAUSAL,
        target_modules=targets,
        feedforward_modules=[name for name in targets if set(anatomy.named_like(linear, name)) & outputs],
        modules_to_save=whole,
    )


def _whole(base: PreTrainedModel, method: Method) -> list[str] | None:
    names = tuple(name for name, _ in base.named_modules() if name)
    _check_there(method.modules_to_save, names, "method.modules_to_save", base)
    return list(method.modules_to_save) or None


def _is_tied(base: PreTrainedModel, method: Method) -> bool:
    """Whether a module that is trained whole is the embedding or the head, and these two are one."""
    into, out = base.get_input_embeddings(), base.get_output_embeddings()  # type: ignore[no-untyped-call]
    if out is None or into.weight is not out.weight:
        return False
    named = [name for name, module in base.named_modules() if module is into or module is out]
    return any(anatomy.named_like(tuple(named), wanted) for wanted in method.modules_to_save)


def _check_there(wanted: tuple[str, ...], names: tuple[str, ...], key: str, base: PreTrainedModel) -> None:
    missing = [name for name in wanted if not anatomy.named_like(names, name)]
    if not missing:
        return
    known = _last_names((*anatomy.linear_names(base), *anatomy.fused_experts(base)))
    remedy = ', or set it to "all-linear"' if key == "method.targets" else ""
    raise Problem(
        f"The model has no module {missing[0]}{closest(missing[0], _last_names(names))}",
        f"Linear modules and experts are {', '.join(known)}."
        if anatomy.fused_experts(base)
        else f"Linear modules are {', '.join(known)}.",
        f"Change {key}{remedy}.",
        code="model",
    )


def _last_names(names: tuple[str, ...]) -> list[str]:
    return sorted({name.rsplit(".")[-1] for name in names})
