"""What CUDA does otherwise than the CPU on which fake tensors live, and what cannot run on fake tensors: stand-ins that allocate alike.

Each is tested against the allocations of the operation that it stands for, or states the place in PyTorch that it follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final
from unittest import mock

import torch
from bitsandbytes.autograd._functions import MatMul8bitLt, MatmulLtState
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn

from engine.train import attention

aten = torch.ops.aten
gemm_4bit = torch.ops.bitsandbytes.gemm_4bit
GEMMS: Final = frozenset({aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.mv, aten.addmv, aten.dot, gemm_4bit})


def workspace(capability: tuple[int, int]) -> int:
    """Bytes that cuBLAS takes from PyTorch's allocator, once for each thread that multiplies matrices.

    `:4096:2:16:8`, and 32 MiB on Hopper and Blackwell: parseChosenWorkspaceSize() in aten/src/ATen/cuda/CublasHandlePool.cpp.
    """
    return (32 << 20) if capability[0] in (9, 10, 12) else (2 * 4096 + 8 * 16) << 10


@contextmanager
def as_if_real() -> Iterator[None]:
    """Have fake tensors taken for tensors: by PyTorch before it works on many at once, by transformers before it does without a mask."""
    with (
        mock.patch("transformers.utils.import_utils.is_fake_tensor", lambda tensor: False),
        mock.patch("torch.utils._foreach_utils._foreach_supported_types", [Tensor, FakeTensor]),
        mock.patch("torch.optim.optimizer._foreach_supported_types", [Tensor, nn.Parameter, FakeTensor]),
    ):
        yield


@contextmanager
def as_on_cuda(capability: tuple[int, int]) -> Iterator[None]:
    """Take the ways through PyTorch that a CUDA device takes."""
    with (
        mock.patch("torch.utils._foreach_utils._get_foreach_kernels_supported_devices", lambda: ["cpu"]),
        mock.patch("torch.optim.optimizer._get_foreach_kernels_supported_devices", lambda: ["cpu"]),
        mock.patch("torch.nn.functional.softmax", partial(_softmax, functional.softmax)),
        mock.patch("torch.nn.functional.dropout", partial(_dropout, functional.dropout)),
        mock.patch("torch.nn.functional.scaled_dot_product_attention", partial(_attention, capability)),
        mock.patch("engine.train.attention.on_cpu", attention.on_gpu),
        mock.patch("bitsandbytes.matmul", _int8_matmul),
        mock.patch("transformers.integrations.moe._can_use_grouped_mm", lambda *_: capability >= (8, 0)),
    ):
        yield


def _softmax(cpu: Callable[..., Tensor], given: Tensor, dim: int, *more: object, **options: object) -> Tensor:
    """Of float16 into float32 in one kernel, where others make a float32 copy first: aten/src/ATen/native/SoftMax.cpp, softmax()."""
    if given.dtype is torch.float16 and options.get("dtype") is torch.float32:
        return torch._softmax(given, dim, True)
    return cpu(given, dim, *more, **options)


def _dropout(
    cpu: Callable[..., Tensor], given: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """One kernel that keeps a mask of bytes, where the CPU multiplies with a mask of values: aten/src/ATen/native/Dropout.cpp."""
    if not training or not 0 < p < 1 or inplace:
        return cpu(given, p, training, inplace)
    return torch.native_dropout(given, p, True)[0]


def _attention(
    capability: tuple[int, int],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The kernel that PyTorch chooses, of those that are switched on: aten/src/ATen/native/transformers/cuda/sdp_utils.cpp.

    Query [rows, heads, length, size]. Flash attention needs Ampere, 16 bits and no mask; the memory-efficient one as many heads of keys.
    """
    if torch.is_autocast_enabled("cpu"):
        kind = torch.get_autocast_dtype("cpu")
        query, key, value = query.to(kind), key.to(kind), value.to(kind)
    halves = query.dtype in (torch.float16, torch.bfloat16)
    flash = capability >= (8, 0) and halves and attn_mask is None and query.shape[-1] <= 256
    if flash and torch.backends.cuda.flash_sdp_enabled():  # type: ignore[no-untyped-call]
        return _FlashAttention.apply(query, key, value)  # type: ignore[no-untyped-call,no-any-return]
    efficient = query.shape[1] == key.shape[1] and (capability >= (8, 0) or query.dtype is not torch.bfloat16)
    if efficient and torch.backends.cuda.mem_efficient_sdp_enabled():  # type: ignore[no-untyped-call]
        if attn_mask is not None and attn_mask.dtype is torch.bool:
            attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(
                attn_mask.logical_not(), float("-inf")
            )
        return _EfficientAttention.apply(query, key, value, attn_mask, capability)  # type: ignore[no-untyped-call,no-any-return]
    return torch._scaled_dot_product_attention_math(
        query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
    )[0]


class _FlashAttention(torch.autograd.Function):
    """aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp, mha_fwd and mha_bwd."""

    @staticmethod
    def forward(ctx: FunctionCtx, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        rows, heads, length, _ = query.shape
        out = _heads_inside(query)
        logsumexp = query.new_empty((rows, heads, length), dtype=torch.float32)
        ctx.save_for_backward(query, key, value, out, logsumexp)
        return out

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor, ...]:
        query, key, value, *_ = ctx.saved_tensors  # type: ignore[attr-defined]
        rows, heads, length, size = query.shape
        whole = _up(length, 128)
        found = tuple(_heads_inside(each) for each in (query, key, value))
        # Sums of products with the result, and what the query's gradient is added up in.
        shapes = (rows, heads, whole), (rows, whole, heads, _up(size, 32))
        kept = [query.new_empty(shape, dtype=torch.float32) for shape in shapes]
        if key.shape[1] != heads:  # for each head of queries, to be added up
            kept += [key.new_empty((rows, key.shape[2], heads, size)) for _ in range(2)]
        del kept
        return found


class _EfficientAttention(torch.autograd.Function):
    """aten/src/ATen/native/transformers/cuda/attention.cu and attention_backward.cu."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, capability: tuple[int, int]
    ) -> Tensor:
        rows, heads, length, size = query.shape
        out = _heads_inside(query)
        logsumexp = query.new_empty((rows, heads, _up(length, 32)), dtype=torch.float32)
        if size > 128 and query.dtype is not torch.float32:
            sums = query.new_empty((rows, length, heads, size), dtype=torch.float32)
            del sums
        ctx.capability = capability  # type: ignore[attr-defined]
        ctx.save_for_backward(query, key, value, out, logsumexp, mask)  # type: ignore[arg-type]
        return out

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, *_ = ctx.saved_tensors  # type: ignore[attr-defined]
        found = tuple(_heads_inside(each) for each in (query, key, value))
        # The kernels for 16 bits do this sum themselves.
        alone = query.dtype is not torch.float32
        delta = query.new_empty(query.shape[:3], dtype=torch.float32) if alone else (grads[0] * out).sum(-1)
        workspace = query.new_empty(_efficient_workspace(query, key, ctx.capability), dtype=torch.uint8)  # type: ignore[attr-defined]
        del delta, workspace
        return *found, None, None


def _efficient_workspace(query: Tensor, key: Tensor, capability: tuple[int, int]) -> int:
    """Bytes in which the backward kernel adds up gradients, of kernels of 64 x 64, and 128 x 128 where there is shared memory for it.

    AttentionBackwardKernel::Params::workspace_size in transformers/cuda/mem_eff_attention/kernel_backward.h.
    """
    rows, heads, length, size = query.shape
    halves = query.dtype is not torch.float32
    side = 128 if halves and 64 < size <= 128 and capability in ((8, 0), (9, 0), (10, 0)) else 64
    floats = -(-length // side) * -(-size // side) * (side * side + 4)
    if halves and size > side:  # keys' and values' do not fit into registers
        splits = max(1, min(-(-key.shape[2] // side), 200 // (rows * heads)))
        floats += 2 * splits * side * _up(size, side)
    return 4 * rows * heads * _up(floats, 4)


def _heads_inside(like: Tensor) -> Tensor:
    """As attention kernels lay it out: heads of a token side by side."""
    rows, heads, length, size = like.shape
    return like.new_empty((rows, length, heads, size)).transpose(1, 2)


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _softmax_backward(grad: Tensor, output: Tensor, *_: object) -> list[int]:
    """`tmp = grad * output`: softmax_backward_cuda_out in aten/src/ATen/native/cuda/SoftMax.cu."""
    return [grad.numel() * grad.element_size()]


def _gemm_4bit(given: Tensor, codes: Tensor, shape: list[int], *more: object) -> list[int]:
    """The weight in the input's type, as for all but few tokens, where a fused kernel may be faster on some GPUs: `gemm_4bit` in
    bitsandbytes/backends/cuda/ops.py. Scales that are quantised themselves are made whole first, and the offset added.
    """
    scales = [4 * more[4].numel()] * 2 if len(more) > 4 and isinstance(more[4], Tensor) else []
    return [*scales, math.prod(shape) * given.element_size()]


def _varlen_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor, bounds: Tensor, *_: object
) -> list[int]:
    """Sums of products, the query's gradient in float32, and keys' and values' for each head of queries: mha_varlen_bwd in flash_api.cpp."""
    tokens, heads, size = query.shape
    padded = tokens + 128 * (bounds.numel() - 1)
    expanded = key.shape[0] * heads * size * key.element_size() if key.shape[1] != heads else 0
    return [4 * heads * padded, 4 * padded * heads * _up(size, 32), *([expanded] * 2 if expanded else [])]


def _int8_product(given: Tensor, codes: Tensor, weight: Tensor, *_: object) -> list[int]:
    """The product in 32-bit integers, and what is made of it in float16 where another type is wanted: int8_scaled_mm of bitsandbytes."""
    values = math.prod(codes.shape[:-1]) * weight.shape[0]
    return [4 * values, *([2 * values] if given.dtype is not torch.float16 else [])]


def _int8_outliers(given: Tensor, threshold: float = 0.0) -> list[int]:
    """Magnitudes, and which are beyond the threshold: int8_vectorwise_quant in bitsandbytes/backends/cuda/ops.py."""
    return [given.numel() * given.element_size(), given.numel()] if threshold else []


def _int8_matmul(
    given: Tensor,
    weight: Tensor,
    out: Tensor | None = None,
    state: MatmulLtState | None = None,
    threshold: float = 0.0,
    bias: Tensor | None = None,
) -> Tensor:
    """In 8 bits, where bitsandbytes makes whole weights on a CPU that trains. It keeps its input, checkpointing or not."""
    state = state or MatmulLtState()
    state.threshold = threshold or state.threshold
    return MatMul8bitLt.apply(given, weight, out, bias, state)  # type: ignore[no-any-return]


BEFORE: Final[Mapping[object, Callable[..., list[int]]]] = {
    gemm_4bit: _gemm_4bit,
    torch.ops.bitsandbytes.int8_mixed_scaled_mm: _int8_product,
}
AFTER: Final[Mapping[object, Callable[..., list[int]]]] = {
    aten._softmax_backward_data: _softmax_backward,
    torch.ops.bitsandbytes.int8_vectorwise_quant: _int8_outliers,
    torch.ops.torch_attn._varlen_attn_backward: _varlen_backward,
}
"""Sizes in bytes of what a CUDA kernel takes for as long as it runs, from the operation's arguments: before its result, or after."""


def _grouped_mm(
    left: Tensor,
    right: Tensor,
    offs: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """The product for each of the experts, of any type: torch's own on fake tensors knows bfloat16 alone.

    Rows are padded to 16 bytes: create_grouped_gemm_output_tensor() in aten/src/ATen/native/GroupedMMUtils.h.
    """
    kind = out_dtype or left.dtype
    unit = 16 // kind.itemsize
    columns = right.shape[-1]
    padded = -(-columns // unit) * unit
    if left.ndim != right.ndim:
        return torch.empty_strided((left.shape[-2], columns), (padded, 1), dtype=kind, device=left.device)
    first = left.shape[0] if offs is None else offs.shape[0]
    shape, strides = (first, left.shape[-2], columns), (left.shape[-2] * padded, padded, 1)
    return torch.empty_strided(shape, strides, dtype=kind, device=left.device)


INSTEAD: Final[Mapping[object, Callable[..., Tensor]]] = {
    aten._grouped_mm.default: _grouped_mm,
}
"""What is done in place of an operation that fake tensors do not know, or not whole."""


def flash_varlen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
) -> Tensor:
    """`flash_attn_varlen_func` of the package flash-attn, which need not be installed: PyTorch has the same kernels."""
    found = varlen_attn(
        q,
        k,
        v,
        cu_seqlens_q,
        cu_seqlens_k,
        int(max_seqlen_q),
        int(max_seqlen_k),
        scale=softmax_scale,
        window_size=(window_size[0], 0 if causal else window_size[1]),
        enable_gqa=q.shape[1] != k.shape[1],
    )
    assert isinstance(found, Tensor)
    return found


def flash(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
) -> Tensor:
    """`flash_attn_func`, for rows that are all as long: [rows, length, heads, size]."""
    rows, length = q.shape[:2]
    bounds = torch.arange(0, (rows + 1) * length, length, dtype=torch.int32)
    query, key, value = (each.flatten(0, 1) for each in (q, k, v))
    found = flash_varlen(query, key, value, bounds, bounds, length, length, softmax_scale, causal, window_size)
    return found.view(q.shape)


@contextmanager
def flash_installed() -> Iterator[None]:
    """transformers finds the package flash-attn, and these in it.

    Whether positions start over in a row it would read off their values: the engine tells it where documents begin, or there is one in a row.
    """
    from transformers import modeling_flash_attention_utils as utils

    found = (flash, flash_varlen, None, utils._pad_input, utils._unpad_input)
    with (
        mock.patch("transformers.PreTrainedModel._flash_attn_import_error"),
        mock.patch.object(utils, "_lazy_imports", lambda *_, **__: found),
        mock.patch.object(utils, "_loaded_implementation", None),
        mock.patch.object(utils, "_is_packed_sequence", lambda *_: False),
    ):
        yield
