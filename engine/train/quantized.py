"""Bases in 4 or 8 bits through bitsandbytes, kept from doing to gradients what it does for speed or convenience."""

from __future__ import annotations

import logging
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import BitsAndBytesConfig

from engine import profile

DTYPES: Final = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def settings_of(settings: profile.Model) -> BitsAndBytesConfig | None:
    """How bitsandbytes is to quantise the base; None for one that stays as it is.

    In 8 bits (LLM.int8(), Dettmers et al. 2022, arXiv:2208.07339) columns of *activations* with a value beyond the threshold, 6.0 as there,
    are multiplied in 16 bits. Weights are kept in 8 bits alone (no `has_fp16_weights`): they are frozen.
    """
    if settings.quantization == "none":
        return None
    if settings.quantization == "int8":
        # At each evaluation each layer would say that it casts activations to float16.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type=settings.quantization,
        bnb_4bit_use_double_quant=settings.double_quantization,
        bnb_4bit_compute_dtype=DTYPES[settings.dtype],
    )


def layers(model: nn.Module) -> dict[str, nn.Linear]:
    """The quantised modules, by name."""
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

    return {name: module for name, module in model.named_modules() if isinstance(module, (Linear4bit, Linear8bitLt))}


def keep_exact(model: nn.Module) -> None:
    """Keep bitsandbytes from repacking 4-bit weights at the first evaluation on a CPU with AVX512-BF16, and PEFT from losing 8-bit scales.

    The repacked form serves inference only: gradients through it are silently wrong ever after. 8-bit weights are not repacked, but DoRA
    on a CPU puts a copy without scales in the weight's place at every forward pass.
    """
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

    for layer in layers(model).values():
        if isinstance(layer, Linear4bit):
            layer.support_avx512bf16_for_cpu = False
        elif isinstance(layer, Linear8bitLt):
            layer.init_8bit_state()
            layer.register_forward_pre_hook(_take_no_lost_scales)


def _take_no_lost_scales(layer: nn.Module, given: object) -> None:
    """The module has the scales; it would take them from the weight once more where that brings codes."""
    weight: Any = layer.weight  # what bitsandbytes adds is not declared
    if weight.CB is not None and weight.SCB is None:
        weight.CB = None


def keep_type_of_scaled(model: nn.Module) -> None:
    """Have IA3 on quantised modules give the type that it was given: PEFT's gives float32, which attention refuses beside 16-bit queries."""
    from peft.tuners.ia3 import IA3Layer

    quantised = {id(layer) for layer in layers(model).values()}
    for module in model.modules():
        if isinstance(module, IA3Layer) and id(module.get_base_layer()) in quantised:
            assert isinstance(module, nn.Module)
            module.register_forward_hook(lambda _, given, found: found.to(given[0].dtype))


def add_trained_biases_outside(model: nn.Module) -> None:
    """Let quantised modules whose bias is trained add it after their product, in place of bitsandbytes.

    It casts the bias in place to the type of what comes in, so a float32 bias would be 16-bit after the first step and stop learning; and
    its 8-bit backward sums the bias's gradient over the first dimension of three only, which is the wrong shape.
    """
    for layer in layers(model).values():
        if layer.bias is not None and layer.bias.requires_grad:
            _add_bias_outside(layer)


def _add_bias_outside(layer: nn.Linear) -> None:
    product = layer.forward

    def forward(x: Tensor) -> Tensor:
        bias = layer._parameters["bias"]
        assert bias is not None
        layer._parameters["bias"] = None
        try:
            found = product(x)
        finally:
            layer._parameters["bias"] = bias
        return found + bias.to(found.dtype)

    layer.forward = forward  # type: ignore[method-assign, assignment]  # called with one thing by place
