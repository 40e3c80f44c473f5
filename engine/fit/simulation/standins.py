"""What CUDA does otherwise than the CPU on which fake tensors live, and what cannot run on fake tensors: stand-ins that allocate alike.

Each is tested against the allocations of the operation that it stands for, or states the place in PyTorch that it follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

aten = torch.ops.aten
GEMMS: Final = frozenset({aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.mv, aten.addmv, aten.dot})


def workspace(capability: tuple[int, int]) -> int:
    """Bytes that cuBLAS takes from PyTorch's allocator, once for each thread that multiplies matrices.

    `:4096:2:16:8`, and 32 MiB on Hopper and Blackwell: parseChosenWorkspaceSize() in aten/src/ATen/cuda/CublasHandlePool.cpp.
    """
    return (32 << 20) if capability[0] in (9, 10, 12) else (2 * 4096 + 8 * 16) << 10


@contextmanager
def as_on_cuda(capability: tuple[int, int]) -> Iterator[None]:
    """Take the ways through PyTorch that a CUDA device takes."""
    with (
        mock.patch("torch.utils._foreach_utils._get_foreach_kernels_supported_devices", lambda: ["cpu"]),
        mock.patch("torch.optim.optimizer._get_foreach_kernels_supported_devices", lambda: ["cpu"]),
        _CudaFunctions(capability),
    ):
        yield


class _CudaFunctions(TorchFunctionMode):
    def __init__(self, capability: tuple[int, int]) -> None:
        super().__init__()
        self._capability = capability

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        if func in SOFTMAX:
            return _softmax(func, *args, **kwargs)
        return func(*args, **kwargs)


SOFTMAX: Final = frozenset({torch.softmax, torch.nn.functional.softmax, Tensor.softmax})


def _softmax(func: Callable[..., Tensor], given: Tensor, dim: int, *more: object, **options: object) -> Tensor:
    """Of float16 into float32 in one kernel, where others make a float32 copy first: aten/src/ATen/native/SoftMax.cpp, softmax()."""
    if given.dtype is torch.float16 and options.get("dtype") is torch.float32:
        return torch._softmax(given, dim, True)
    return func(given, dim, *more, **options)


def _softmax_backward(grad: Tensor, output: Tensor, *_: object) -> list[int]:
    """`tmp = grad * output`: softmax_backward_cuda_out in aten/src/ATen/native/cuda/SoftMax.cu."""
    return [grad.numel() * grad.element_size()]


TEMPORARIES: Final[Mapping[object, Callable[..., list[int]]]] = {
    aten._softmax_backward_data: _softmax_backward,
}
"""Sizes in bytes of what a CUDA kernel takes for as long as it runs, from the operation's arguments; allocated after the result."""
