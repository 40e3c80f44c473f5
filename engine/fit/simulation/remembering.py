"""What operations on fake tensors give is remembered: the same operation on the same shapes again is not worked out anew.

PyTorch's fake tensors remember too, but look for symbolic sizes, sparse and conjugated tensors first, which takes several times as long. A
training step does the same operations hundreds of times and has none of these; whatever is not plain here goes PyTorch's way.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Final

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, in_kernel_invocation_manager
from torch.utils._pytree import tree_leaves

PLAIN: Final = frozenset(
    {bool, int, float, str, NoneType, torch.dtype, torch.device, torch.layout, torch.memory_format}
)
UNSTEADY: Final = frozenset({torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape, torch.Tag.inplace_view})
"""Operations whose result values decide, or that change the shape of what they are given."""

Make = Callable[[Sequence[object]], object]


class Remembering:
    """Calls operations, or makes what they gave before. For one FakeTensorMode."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Make | None] = {}

    def __call__(
        self, operation: torch._ops.OpOverload, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> object:
        """What the operation gives."""
        said: list[Hashable] = [operation, torch.get_default_dtype(), torch.is_inference_mode_enabled(), *kwargs]
        if not (_describe(args, said) and _describe(tuple(kwargs.values()), said)):
            return operation(*args, **kwargs)
        key = tuple(said)
        make = self._known.get(key)
        if make is not None:
            return make(args)
        given = operation(*args, **kwargs)
        if key not in self._known:
            self._known[key] = _how(operation, args, kwargs, given)
        return given


def _describe(value: object, said: list[Hashable]) -> bool:
    """Say everything of an argument that a result's shape depends on; whether that is possible."""
    kind = type(value)
    if kind is FakeTensor:
        assert isinstance(value, FakeTensor)
        said += (value.dtype, value.shape, value.stride(), value.storage_offset(), value.layout, value.fake_device)
        return value.constant is None and not value.dtype.is_complex
    if kind in PLAIN:
        said.append((kind, value))  # 1, 1.0 and True are equal
        return True
    if isinstance(value, (list, tuple)):
        said.append(len(value))
        return all(_describe(each, said) for each in value)
    return False


@dataclass(frozen=True, slots=True)
class _Argument:
    """An argument is given back."""

    place: int

    def __call__(self, args: Sequence[object]) -> object:
        return args[self.place]


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor like this is made; `viewed` is the place of the argument whose storage it shares."""

    mode: FakeTensorMode
    shape: torch.Size
    stride: tuple[int, ...]
    offset: int | torch.SymInt
    dtype: torch.dtype
    device: torch.device
    viewed: int | None

    def __call__(self, args: Sequence[object]) -> Tensor:
        base = None if self.viewed is None else args[self.viewed]
        with in_kernel_invocation_manager(self.mode):
            made = torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device="meta")
            if isinstance(base, Tensor):
                made.set_(base.untyped_storage(), self.offset, self.shape, self.stride)
        return FakeTensor(self.mode, made, self.device)


@dataclass(frozen=True, slots=True)
class _Several:
    """Each is made."""

    kind: type[list[object]] | type[tuple[object, ...]]
    makes: tuple[Make, ...]

    def __call__(self, args: Sequence[object]) -> object:
        return self.kind(make(args) for make in self.makes)


def _nothing(_: Sequence[object]) -> None:
    """What operations in place on lists give."""


def _how(
    operation: torch._ops.OpOverload, args: Sequence[object], kwargs: Mapping[str, object], given: object
) -> Make | None:
    """How what was given is made again; None where only the operation itself can."""
    if operation.namespace != "aten" or not UNSTEADY.isdisjoint(operation.tags):
        return None
    if given is None:
        return _nothing
    if type(given) in (list, tuple):
        assert isinstance(given, (list, tuple))
        makes = [_nothing if each is None else _one(operation, args, kwargs, each) for each in given]
        storages = [each.untyped_storage()._cdata for each in given if isinstance(each, Tensor)]
        apart = operation.is_view or len(set(storages)) == len(storages)
        found = tuple(make for make in makes if make is not None)
        return _Several(type(given), found) if apart and len(found) == len(makes) else None
    return _one(operation, args, kwargs, given)


def _one(
    operation: torch._ops.OpOverload, args: Sequence[object], kwargs: Mapping[str, object], given: object
) -> Make | None:
    """Likewise, of one tensor."""
    for place, arg in enumerate(args):
        if arg is given:
            return _Argument(place)
    if type(given) is not FakeTensor or given.requires_grad or given.layout is not torch.strided:
        return None
    storage = given.untyped_storage()
    shares = [
        leaf
        for leaf in tree_leaves((args, kwargs))
        if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata == storage._cdata
    ]
    viewed = 0 if shares else None
    if shares and not (operation.is_view and args[0] is shares[0]):
        return None
    how = _Tensor(
        given.fake_mode,
        given.shape,
        given.stride(),
        given.storage_offset(),
        given.dtype,
        given.fake_device,
        viewed,
    )
    made = how(args)
    same = made.untyped_storage().nbytes() == storage.nbytes() and made.storage_offset() == given.storage_offset()
    return how if same and torch._C._dispatch_key_set(made) == torch._C._dispatch_key_set(given) else None
