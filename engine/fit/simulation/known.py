"""Values while tensors are fake: what is computed from real numbers alone stays real, and everything else is one.

Where documents begin, which columns are scored, whether a row is padded: the code looks at these, and they are known. It also asks whether
a loss or a norm is finite; there a value of one lets it go on as it does when all is well.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from engine.fit.simulation.remembering import Remembering

aten = torch.ops.aten
bitsandbytes = torch.ops.bitsandbytes
KNOWN: Final = 1 << 16  # ones that the code makes itself, at most


class KnownValues(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """To be entered inside of a FakeTensorMode."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._remembering = Remembering()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled in here

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # let it be done in operations on this rank's share, which come here
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        fake = any(isinstance(tensor, FakeTensor) for tensor in given)
        if func is aten._local_scalar_dense.default and fake:
            return 1.0 if given[0].is_floating_point() else given[0].dtype is torch.bool or 1
        if func is aten.equal.default and fake:
            return True
        if func is bitsandbytes.int8_vectorwise_quant.default and fake and len(args) > 1 and args[1]:
            codes, scales, _ = func(args[0])
            return codes, scales, args[0].new_empty(0, dtype=torch.int64)
        if func is bitsandbytes.int8_mixed_scaled_mm.default and fake:
            return args[0].new_empty((*args[1].shape[:-1], args[2].shape[0])), args[0].new_empty(0)
        numbers = given and not fake and all(tensor.device.type == "cpu" for tensor in given)
        if numbers or (func is aten.ones.default and math.prod(args[0]) <= KNOWN):  # the mask of virtual tokens
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        return self._remembering(func, args, kwargs)
