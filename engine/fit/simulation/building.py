"""A model without weights, built as the engine builds one, by transformers and PEFT on the meta device.

transformers makes the base from its configuration and replaces linear modules by quantised ones, `engine.train.model.ready` adds what the method
trains. Fake storage comes after that (`loading`), since PEFT does not work on fake tensors.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from unittest import mock

import torch
from huggingface_hub.errors import StrictDataclassError
from peft import PeftModel
from peft.tuners.lora.dora import DoraLinearLayer
from pydantic import ValidationError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.quantizers.auto import AutoHfQuantizer
from transformers.utils import logging as transformers_logging

from engine.errors import Problem
from engine.fit.question import Question
from engine.fit.simulation import checking
from engine.profile import Model, Profile
from engine.train import model as models
from engine.train import pretrained, quantized
from engine.train.model import Loaded
from engine.train.quantized import DTYPES
from engine.train.scorer import base_of

CPU = torch.device("cpu")


def profile_of(question: Question) -> Profile:
    """The profile that asks this, as far as it matters; what it names - a base, data - is not there.

    Raises:
        Problem: no profile can ask it.
    """
    checking.check(question)
    step, machine = question.step, question.machine
    training = {
        **question.training,
        "micro_batch": step.rows,
        "effective_batch": step.rows * (2 if step.accumulates else 1),
        "packing": step.packed,
        "row_tokens": max(16, step.tokens),
        "checkpoint_activations": step.checkpointing,
    }
    values = {
        "model": {"base": "simulated", **question.model},
        "data": [{"source": "simulated"}],
        "method": dict(question.method),
        "training": training,
        "hardware": {"device": "cpu", "ranks": machine.ranks, "sharding": machine.sharding},
    }
    try:
        return Profile.model_validate(values)
    except ValidationError as error:
        raise checking.no_profile(error) from error


def configuration(config: Mapping[str, object], settings: Model) -> PreTrainedConfig:
    """What transformers makes of a config.json.

    Raises:
        Problem: it names no architecture that this transformers knows, or needs code of its own that is not trusted, or lacks something.
    """
    values = dict(config)
    kind = values.pop("model_type", None)
    if "auto_map" in config and (settings.trust_remote_code or kind not in CONFIG_MAPPING):
        return _with_code_of_its_own(settings)
    if kind not in CONFIG_MAPPING:
        raise Problem(
            "The memory of this model cannot be simulated",
            f"Its config.json names the architecture {kind}, which this transformers does not know."
            if kind
            else "Its config.json does not name its architecture (model_type).",
            "Check that it is a causal language model; a newer transformers may know it.",
            code="model",
        )
    checking.check_sizes(str(kind), config)
    try:
        found: PreTrainedConfig = AutoConfig.for_model(str(kind), **values)
    except (KeyError, TypeError, ValueError, AttributeError, StrictDataclassError) as error:
        raise Problem(
            f"The config.json of this {kind} is not whole",
            " ".join(str(error).split()) or type(error).__name__,
            "Download or save the model again.",
            code="model",
        ) from error
    checking.check_configuration(found, config)
    return found


def cut(config: PreTrainedConfig, places: Sequence[int]) -> PreTrainedConfig:
    """The same with the decoder layers at these places only."""
    found = copy.deepcopy(config)
    text = found.get_text_config()
    count = text.num_hidden_layers
    for name, value in list(vars(text).items()):
        if isinstance(value, list) and len(value) == count:
            setattr(text, name, [value[place] for place in places])
    text.num_hidden_layers = len(places)
    return found


def _with_code_of_its_own(settings: Model) -> PreTrainedConfig:
    """Of a model that comes with Python code.

    Raises:
        Problem: it is not trusted.
    """
    if not settings.trust_remote_code:
        raise Problem(
            "The memory of this model cannot be simulated",
            "It comes with Python code of its own, which is not run unless it is trusted.",
            "Set model.trust_remote_code = true if you trust it as you trust a program.",
            code="model",
        )
    found: PreTrainedConfig = AutoConfig.from_pretrained(
        settings.base, revision=settings.revision, trust_remote_code=True, local_files_only=True
    )
    return found


def built(config: PreTrainedConfig, profile: Profile) -> Loaded:
    """The model ready to train, on the meta device; `loading` gives it storage.

    Raises:
        Problem: modules that are not there, a method that the base does not bear, an attention that it lacks.
    """
    base = _base(config, profile.model, trainable=profile.method.name == "full")
    with warnings.catch_warnings(), _magnitudes_without_values(quantised=profile.model.quantization != "none"):
        warnings.simplefilter("ignore")  # what PEFT and transformers say of a model is said when it is trained
        return models.ready(base, profile, CPU)


def _base(config: PreTrainedConfig, settings: Model, *, trainable: bool) -> PreTrainedModel:
    """As `pretrained.load_base` has it, on the meta device."""
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    quantization = quantized.settings_of(settings)
    base = empty(
        config,
        dtype=torch.float32 if trainable else DTYPES[settings.dtype],
        attn_implementation=pretrained.ATTENTION[settings.attention],
        trust_remote_code=settings.trust_remote_code,
    )
    pretrained.check_columns(base, f"This {config.model_type}")
    _check_kernel(base)
    if quantization:
        quantizer = AutoHfQuantizer.from_config(quantization, pre_quantized=False)
        quantizer.preprocess_model(model=base, dtype=DTYPES[settings.dtype], device_map={"": CPU})
        quantizer.postprocess_model(base)
    base.requires_grad_(trainable)
    return base


def _check_kernel(base: PreTrainedModel) -> None:
    """See that its attention is transformers' own: where flash-attn lacks something, as sinks, it takes kernels from the hub.

    Raises:
        Problem: it is not.
    """
    kernel = base.config._attn_implementation
    if "/" in str(kernel):
        raise Problem(
            f"The memory of {base.config.model_type} cannot be simulated with this attention",
            f"transformers takes {kernel} from the hub for it, of which is not known what it allocates.",
            "Set model.attention = auto, or start it all the same.",
            code="model",
        )


def empty(config: PreTrainedConfig, **how: object) -> PreTrainedModel:
    """A causal language model of this configuration on the meta device; `how` is what transformers is told besides.

    Raises:
        Problem: there is none, or it lacks something.
    """
    try:
        with torch.device("meta"):
            found: PreTrainedModel = AutoModelForCausalLM.from_config(config, **how)  # type: ignore[no-untyped-call]
    except (ImportError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Problem(
            f"The memory of {config.model_type} cannot be simulated",
            str(error).strip().partition("\n")[0] or type(error).__name__,
            "Check that it is a causal language model that this transformers knows, and has model.attention.",
            code="model",
        ) from error
    return found


@contextmanager
def _magnitudes_without_values(*, quantised: bool) -> Iterator[None]:
    """Let DoRA have its magnitudes, one for each output, where weights that are not there cannot be unpacked to compute them."""

    def begin(magnitude: DoraLinearLayer, *, base_layer: nn.Linear, lora_A: Tensor, **_: object) -> None:  # noqa: N803 - PEFT's name
        magnitude.weight = nn.Parameter(lora_A.new_empty(base_layer.out_features))

    with mock.patch.object(DoraLinearLayer, "update_layer", begin) if quantised else nullcontext():
        yield


def layers_of(model: PreTrainedModel | PeftModel) -> list[nn.Module]:
    """The decoder's layers, in their order; none where they are not in a list. Those of an encoder of pictures beside it are none."""
    decoder = base_of(model).get_decoder()  # type: ignore[no-untyped-call]
    lists = [part for part in decoder.modules() if isinstance(part, nn.ModuleList) and len(part) > 0]
    return list(max(lists, key=lambda part: sum(p.numel() for p in part.parameters()), default=[]))
