"""The program that made the measured rows, on fake tensors: fitcheck-llm 0.3.1's scripts/measure.py, whose steps this follows in its order.

It loads a base by transformers (to the CPU and then `.cuda()`, or quantised on the GPU weight by weight), attaches LoRA by PEFT, and makes two
steps of `model(input_ids=ids, labels=ids)`, backward, and the optimizer's update; the second is measured. `out` of a step lives until it
returns.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any, Final
from unittest import mock

import torch
from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt
from bitsandbytes.optim.adamw import AdamW8bit
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedConfig
from transformers.core_model_loading import dot_natural_key
from transformers.quantizers.auto import AutoHfQuantizer

from engine.fit.question import Part, Phase
from engine.fit.simulation.loading import quantise
from engine.fit.simulation.tracing import Tracer, tensors
from engine.fit.stream import Stream

Run = Mapping[str, Any]
"""A row's `run`: how it was configured."""

Place = tuple[str, nn.Module, str]
"""A weight: its name in a checkpoint, its module, and its name there."""

DTYPES: Final = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
OPTIMIZERS: Final[Mapping[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]]] = {
    "adamw": partial(torch.optim.AdamW, lr=1e-4),
    "adam8bit": partial(AdamW8bit, lr=1e-4),
    "sgd": partial(torch.optim.SGD, lr=1e-4),
    "sgd-momentum": partial(torch.optim.SGD, lr=1e-4, momentum=0.9),
}
THREADS: Final = 4  # GLOBAL_WORKERS in transformers/core_model_loading.py
TAKING: Final = 4 << 20  # half a millisecond of Python at 8 GB/s: an estimate; from 1 to 12 MiB little changes
T4: Final = (7, 5)
STEPS: Final = 2


def stream(config: PreTrainedConfig, run: Run) -> Stream:
    """What a row's process allocated until the end of the step that was measured."""
    dtype = DTYPES[run["precision"]]
    with ExitStack() as within:
        within.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        base = _base(config, run, dtype)
        places = _places(base)
        model = _adapted(base, run)
        tracer = within.enter_context(Tracer(capability=T4, vocabulary=config.vocab_size))
        _load(places, model, run, dtype, tracer)
        optimizer = _optimizer(model, run)
        tracer.mark(Part.WEIGHTS, tensors(list(model.parameters()), list(model.buffers())))
        ids = torch.zeros((run["batch_size"], run["seq_len"]), dtype=torch.long)
        if run["attn_impl"] == "sdpa":
            within.enter_context(_expanding())
        for _ in range(STEPS):
            _step(model, optimizer, ids, tracer)
    return tracer.stream


def _step(model: nn.Module, optimizer: torch.optim.Optimizer | _MasterWeights, ids: Tensor, tracer: Tracer) -> None:
    with tracer.phase(Phase.STEP):
        optimizer.zero_grad(set_to_none=True)
    with tracer.phase(Phase.FORWARD):
        out = model(input_ids=ids, labels=ids)
    with tracer.phase(Phase.BACKWARD):
        out.loss.backward()
    tracer.mark(Part.GRADIENTS, (each.grad for each in model.parameters() if each.grad is not None))
    with tracer.phase(Phase.STEP):
        optimizer.step()
    tracer.mark(Part.OPTIMIZER, tensors(list(optimizer.state.values())))


def _base(config: PreTrainedConfig, run: Run, dtype: torch.dtype) -> nn.Module:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=run["attn_impl"])
    model.tie_weights()
    if run["quantization"] != "none":
        four = run["quantization"] == "nf4"
        settings = BitsAndBytesConfig(
            load_in_4bit=four,
            load_in_8bit=not four,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=dtype,
            bnb_4bit_use_double_quant=run["double_quant"],
        )
        quantizer = AutoHfQuantizer.from_config(settings, pre_quantized=False)
        quantizer.preprocess_model(model=model, dtype=dtype, device_map={"": torch.device("cpu")})
        quantizer.postprocess_model(model)
    model.config.use_cache = False
    return model


def _places(base: nn.Module) -> list[Place]:
    """Where weights are, module by module, under the names of a checkpoint."""
    return [
        (f"{path}.{name}", module, name)
        for path, module in base.named_modules()
        for name, parameter in module._parameters.items()
        if parameter is not None
    ]


def _adapted(model: Any, run: Run) -> nn.Module:
    """With an adapter, and checkpointing as asked for."""
    if run["lora_rank"]:
        if run["quantization"] != "none":
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=run["grad_checkpoint"])
        rank = run["lora_rank"]
        settings = LoraConfig(
            r=rank,
            lora_alpha=2 * rank,
            lora_dropout=0.0,
            task_type="CAUSAL_LM",
            target_modules=list(run["lora_targets"]),
        )
        model = get_peft_model(model, settings)
    if run["grad_checkpoint"]:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    model.train()
    return model


def _load(places: list[Place], model: nn.Module, run: Run, dtype: torch.dtype, tracer: Tracer) -> None:
    """Storage for the base's weights in the order in which transformers brings them to the GPU, then for the adapter's."""
    stood: dict[int, Tensor] = {}  # shared weights are brought once
    if run["quantization"] == "none":
        for _, module, name in places:  # `.cuda()`: module by module, each weight in its own type
            _give(module._parameters, name, dtype, stood)
        _load_buffers(model, stood)
    else:
        _load_quantised(places, dtype, tracer)
        _load_buffers(model, stood)
        _prepare(places)
    _load_adapter(model, torch.float32 if run["quantization"] != "none" else dtype)


def _load_quantised(places: list[Place], dtype: torch.dtype, tracer: Tracer) -> None:
    """In the order of their names, in 16 bits, and quantised there one by one, into a block as large as all will be that is taken and given
    back before: `caching_allocator_warmup` and `convert_and_load_state_dict_in_model` of transformers, whose threads bring what follows.
    """
    shared: dict[int, list[tuple[nn.Module, str]]] = {}
    for _, module, name in sorted(places, key=lambda place: dot_natural_key(place[0])):
        shared.setdefault(id(module._parameters[name]), []).append((module, name))
    held = list(shared.values())
    tracer.take(int(sum(_loaded_bytes(*each[0], dtype) for each in held)))()
    brought: dict[int, Tensor] = {}
    for begun, number in _brought([_weight(*each[0]).numel() * dtype.itemsize for each in held]):
        if begun:
            brought[number] = torch.empty(_weight(*held[number][0]).shape, dtype=dtype)
        elif _is_quantised(*held[number][0]):
            quantise(held[number][0][0], brought.pop(number))
        else:
            weight = nn.Parameter(brought.pop(number), requires_grad=False)
            for module, name in held[number]:
                module._parameters[name] = weight


def _brought(sizes: list[int]) -> Iterator[tuple[bool, int]]:
    """In which order weights of so many bytes are begun to be copied, and taken.

    Threads share the way to the GPU evenly, and each goes on with the next that nobody has begun. The main thread takes weights in their order;
    TAKING is what is copied meanwhile. How far the threads are ahead decides what stays cached, whole weights at a time.
    """
    left: dict[int, float] = {}  # bytes to be copied
    begun, taken = 0, 0
    busy = 0.0  # bytes copied until the weight in hand is taken
    while taken < len(sizes):
        while len(left) < THREADS and begun < len(sizes):
            left[begun] = sizes[begun]
            yield True, begun
            begun += 1
        busy = busy or (0.0 if taken in left else TAKING)
        passed = min(([busy] if busy else []) + [size * len(left) for size in left.values()])
        left = {number: size - passed / len(left) for number, size in left.items()}
        left = {number: size for number, size in left.items() if size > 1}
        if busy:
            busy = max(0.0, busy - passed)
            if not busy:
                yield False, taken
                taken += 1


def _loaded_bytes(module: nn.Module, name: str, dtype: torch.dtype) -> float:
    each = (0.5 if isinstance(module, Linear4bit) else 1) if _is_quantised(module, name) else dtype.itemsize
    return _weight(module, name).numel() * each


def _is_quantised(module: nn.Module, name: str) -> bool:
    return name == "weight" and isinstance(module, (Linear4bit, Linear8bitLt))


def _weight(module: nn.Module, name: str) -> Tensor:
    weight = module._parameters[name]
    assert weight is not None
    return weight


def _prepare(places: list[Place]) -> None:
    """What is not quantised becomes float32, weight by weight: `prepare_model_for_kbit_training` of PEFT 0.19, as most rows were measured with;
    later ones give back what is cached.
    """
    whole: dict[int, nn.Parameter] = {}
    for _, module, name in places:
        held = id(module._parameters[name])
        if held not in whole and _weight(module, name).dtype in (torch.float16, torch.bfloat16):
            whole[held] = nn.Parameter(_weight(module, name).detach().to(torch.float32), requires_grad=False)
        if held in whole:
            module._parameters[name] = whole[held]


def _load_adapter(model: nn.Module, dtype: torch.dtype) -> None:
    """PEFT gives what it adds the type of the weight beside it, where that is a floating-point type, and makes all of it float32 in the end."""
    added = [
        (module._parameters, name)
        for module in model.modules()
        for name, parameter in module._parameters.items()
        if parameter is not None and parameter.device.type == "meta"
    ]
    for held, name in added:
        _give(held, name, dtype, {})
    for held, name in added:
        if held[name].dtype is not torch.float32:
            held[name] = nn.Parameter(held[name].detach().float())


def _load_buffers(model: nn.Module, stood: dict[int, Tensor]) -> None:
    for module in model.modules():
        for name in module._buffers:
            _give(module._buffers, name, None, stood)


def _give(held: dict[str, Any], name: str, dtype: torch.dtype | None, stood: dict[int, Tensor]) -> None:
    """Storage for a tensor on the meta device; the same again for one that had it before."""
    tensor = held[name]
    if tensor is None or tensor.device.type != "meta":
        return
    if id(tensor) not in stood:
        fake = torch.empty(tensor.shape, dtype=dtype or tensor.dtype)
        stood[id(tensor)] = nn.Parameter(fake, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else fake
    held[name] = stood[id(tensor)]


def _optimizer(model: nn.Module, run: Run) -> torch.optim.Optimizer | _MasterWeights:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    whole = run["lora_rank"] is None and run["precision"] != "fp32"
    return _MasterWeights(trained, run["optimizer"]) if whole else OPTIMIZERS[run["optimizer"]](trained)


class _MasterWeights:
    """Trains float32 copies of weights in 16 bits: those take gradients over before an update and give values back after it."""

    def __init__(self, trained: list[nn.Parameter], name: str) -> None:
        self._pairs = [(each, nn.Parameter(each.detach().clone().float())) for each in trained]
        self._inner = OPTIMIZERS[name]([master for _, master in self._pairs])
        self.state = self._inner.state

    def zero_grad(self, set_to_none: bool = True) -> None:
        self._inner.zero_grad(set_to_none=set_to_none)
        for trained, _ in self._pairs:
            trained.grad = None

    def step(self) -> None:
        for trained, master in self._pairs:
            master.grad = None if trained.grad is None else trained.grad.detach().float()
        self._inner.step()
        with torch.no_grad():
            for trained, master in self._pairs:
                master.grad = None
                trained.copy_(master)


@contextmanager
def _expanding() -> Iterator[None]:
    """Key and value heads repeated before attention, by its memory-efficient kernel only: the program's shim for grouped queries."""
    attention = torch.nn.functional.scaled_dot_product_attention

    @wraps(attention)
    def expanded(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        groups = query.size(-3) // key.size(-3)
        if groups > 1:
            key, value = (each.repeat_interleave(groups, dim=-3) for each in (key, value))
            kwargs.pop("enable_gqa", None)
        return attention(query, key, value, *args, **kwargs)

    with (
        mock.patch("torch.nn.functional.scaled_dot_product_attention", expanded),
        sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION),
    ):
        yield
