"""What is stood for allocates what it stands for does: PyTorch's own descriptions of its CUDA kernels, and bitsandbytes on real tensors."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import bitsandbytes as bnb
import pytest
import torch
from bitsandbytes.autograd._functions import MatMul8bitLt, MatmulLtState
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from engine.fit.allocator import replay
from engine.fit.question import Phase
from engine.fit.simulation import loading, standins
from engine.fit.simulation.tracing import Tracer, tensors
from engine.fit.stream import Stream

aten = torch.ops.aten
T4, A100 = (7, 5), (8, 0)
ROWS, HEADS, LENGTH, SIZE = 2, 4, 80, 64


def attended(capability: tuple[int, int], kind: torch.dtype, *, key_heads: int = HEADS, mask: bool = False) -> Stream:
    """Attention forward and backward, as transformers asks for it."""
    with Tracer(capability=capability) as tracer:
        shapes = [(ROWS, LENGTH, heads, SIZE) for heads in (HEADS, key_heads, key_heads)]
        query, key, value = (torch.empty(shape, dtype=kind).transpose(1, 2).requires_grad_() for shape in shapes)
        ones = torch.ones((ROWS, 1, LENGTH, LENGTH), dtype=torch.bool) if mask else None
        with tracer.phase(Phase.FORWARD):
            found = functional.scaled_dot_product_attention(
                query, key, value, ones, is_causal=ones is None, enable_gqa=key_heads != HEADS
            )
        grad = torch.empty_like(found)
        with tracer.phase(Phase.BACKWARD):
            found.backward(grad)
    return tracer.stream


def sizes(stream: Stream, phase: Phase) -> list[int]:
    """What was allocated in a phase, largest first."""
    return sorted((event.size for event in stream if event.size > 0 and event.phase is phase), reverse=True)


def described(operation: Callable[..., tuple[Tensor, ...]], kind: torch.dtype, *more: object) -> list[int]:
    """Sizes of what a CUDA kernel returns, by PyTorch's description of it."""
    with FakeTensorMode():
        given = (torch.empty((ROWS, LENGTH, HEADS, SIZE), dtype=kind, device="cuda").transpose(1, 2) for _ in range(3))
        found = operation(*given, *more)
    return [each.untyped_storage().nbytes() for each in found if isinstance(each, Tensor) and each.numel() > 1]


def test_flash_attention_keeps_what_its_kernel_returns() -> None:
    kernel = described(aten._scaled_dot_product_flash_attention.default, torch.float16, 0.0, True)
    random_state = 16  # two numbers for dropout
    assert sizes(attended(A100, torch.float16), Phase.FORWARD) == sorted(set(kernel) - {random_state}, reverse=True)


@pytest.mark.parametrize("kind", [torch.float16, torch.float32])
def test_efficient_attention_keeps_what_its_kernel_returns(kind: torch.dtype) -> None:
    kernel = described(aten._scaled_dot_product_efficient_attention.default, kind, None, True, 0.0, True)
    assert sizes(attended(T4, kind), Phase.FORWARD) == sorted(kernel, reverse=True)


def test_attention_gives_back_gradients_as_large_as_what_they_are_of() -> None:
    inputs = ROWS * LENGTH * HEADS * SIZE * 2
    for stream in (attended(A100, torch.float16), attended(T4, torch.float16)):
        assert sizes(stream, Phase.BACKWARD).count(inputs) == 3
        made = {event.block for event in stream if event.size > 0 and event.phase is Phase.BACKWARD}
        freed_at_once = {event.block for event in stream if not event.size and event.phase is Phase.BACKWARD}
        assert len(made - freed_at_once) == 3


def test_the_kernel_is_the_one_that_pytorch_would_choose() -> None:
    """Grouped queries: flash on Ampere, none that is fused on Turing; a mask: the efficient one on both."""
    scores = ROWS * HEADS * LENGTH * LENGTH
    assert scores * 2 not in sizes(attended(A100, torch.float16, key_heads=2), Phase.FORWARD)
    assert scores * 4 in sizes(attended(T4, torch.float16, key_heads=2), Phase.FORWARD)
    masked = sizes(attended(A100, torch.float16, mask=True), Phase.FORWARD)
    assert ROWS * LENGTH * LENGTH * 2 in masked and scores * 2 not in masked
    with sdpa_kernel(SDPBackend.MATH):
        assert scores * 4 in sizes(attended(A100, torch.float16), Phase.FORWARD)


@pytest.mark.parametrize(("kind", "copies"), [(torch.float16, 0), (torch.bfloat16, 1)])
def test_softmax_into_float32_copies_no_float16(kind: torch.dtype, copies: int) -> None:
    with Tracer(capability=A100) as tracer:
        given = torch.empty(1000, dtype=kind, requires_grad=True)
        with tracer.phase(Phase.FORWARD):
            found = functional.softmax(given, dim=-1, dtype=torch.float32)
        grad = torch.empty_like(found)
        with tracer.phase(Phase.BACKWARD):
            found.backward(grad)
    assert sizes(tracer.stream, Phase.FORWARD) == [4000] * (1 + copies)
    assert 4000 in sizes(tracer.stream, Phase.BACKWARD)  # the gradient times the result, for as long as the kernel runs


def test_dropout_keeps_a_mask_of_bytes_on_cuda() -> None:
    found = {}
    for capability in (None, A100):
        with Tracer(capability=capability) as tracer:
            given = torch.empty(1000, requires_grad=True)
            with tracer.phase(Phase.FORWARD):
                kept = functional.dropout(given, 0.1)
            del kept
        found[capability] = sizes(tracer.stream, Phase.FORWARD)
    assert found[A100] == [4000, 1000]
    assert 1000 not in found[None]


def test_many_parameters_are_updated_at_once_on_cuda() -> None:
    """For as long as the update takes there is a float for each trained weight: PyTorch's default there."""
    taken = {}
    for capability in (None, A100):
        with Tracer(capability=capability) as tracer:
            weights = [torch.nn.Parameter(torch.empty(1000)) for _ in range(8)]
            for weight in weights:
                weight.grad = torch.empty(1000)
            optimizer = torch.optim.AdamW(weights)
            for phase in (Phase.LOAD, Phase.STEP):
                with tracer.phase(phase):
                    optimizer.step()
            states = tensors(list(optimizer.state.values()))
            assert sum(each.numel() for each in states if each.ndim) == 2 * 8000
        phases = replay(tracer.stream).phases
        taken[capability] = phases[Phase.STEP][0] - (8 + 8 + 16) * 4096  # weights, gradients and moments
    assert taken[A100] >= 8 * 4096 > 4 * 4096 >= taken[None]


@pytest.mark.parametrize("double", [False, True])
def test_a_product_with_a_4_bit_weight_makes_the_weight_whole(double: bool) -> None:
    module = bnb.nn.Linear4bit(
        256, 512, bias=False, compute_dtype=torch.float16, compress_statistics=double, device="meta"
    )
    with Tracer(capability=T4) as tracer:
        loading.quantise(module, torch.empty((512, 256), dtype=torch.float16))
        given = torch.empty((64, 256), dtype=torch.float16)
        with tracer.phase(Phase.FORWARD):
            found = module(given)
    made = sizes(tracer.stream, Phase.FORWARD)
    assert 512 * 256 * 2 in made and found.numel() * 2 in made
    assert (512 * 256 // 64 * 4 in made) is double  # scales, made whole


@pytest.mark.parametrize("double", [False, True])
def test_a_4_bit_weight_is_as_large_as_bitsandbytes_makes_it(double: bool) -> None:
    real, state = bnb.functional.quantize_4bit(torch.randn(512, 256), quant_type="nf4", compress_statistics=double)
    module = bnb.nn.Linear4bit(256, 512, bias=False, compress_statistics=double, quant_type="nf4", device="meta")
    with Tracer(capability=T4):
        loading.quantise(module, torch.empty((512, 256)))
        codes, fake = module.weight, module.quant_state
        assert codes.untyped_storage().nbytes() == real.untyped_storage().nbytes()
        for name in ("absmax", "code", "offset"):
            assert getattr(getattr(fake, name), "shape", None) == getattr(getattr(state, name), "shape", None)
        assert (fake.state2 is None) is (state.state2 is None) is not double


def test_a_product_with_an_8_bit_weight_keeps_what_it_keeps_on_real_tensors() -> None:
    """The input, although a checkpoint around it would have it forgotten: bitsandbytes holds it by an attribute."""

    def kept(given: Tensor, weight: Tensor, scales: Tensor) -> list[int]:
        state = MatmulLtState()
        state.CB, state.SCB, state.threshold, state.is_training = weight, scales, 6.0, True
        with _living() as living:
            found = MatMul8bitLt.apply(given.requires_grad_(), weight, None, None, state)
        sizes = sorted(living())
        assert found.shape == (64, 32)
        return sizes

    real = kept(torch.randn(64, 128).half(), torch.ones((32, 128), dtype=torch.int8), torch.ones(32))
    with Tracer(capability=T4):
        fake = kept(torch.empty((64, 128)).half(), torch.ones((32, 128), dtype=torch.int8), torch.ones(32))
    assert [size for size in real if size > 512] == [size for size in fake if size > 512]


@contextmanager
def _living() -> Iterator[Callable[[], list[int]]]:
    """Of the storages that operations make in here, the sizes of those that are still there."""
    made: list[tuple[weakref.ref[torch.UntypedStorage], int]] = []

    class Seeing(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            found = func(*args, **(kwargs or {}))
            for each in tensors(found):
                storage = each.untyped_storage()
                if all(seen() is not storage for seen, _ in made):
                    made.append((weakref.ref(storage), storage.nbytes()))
            return found

    with Seeing():
        yield lambda: [size for seen, size in made if seen() is not None]


def test_a_workspace_is_as_large_as_cublas_asks_for() -> None:
    assert standins.workspace(T4) == standins.workspace((8, 9)) == 8_519_680
    assert standins.workspace((9, 0)) == standins.workspace((12, 0)) == 32 << 20
