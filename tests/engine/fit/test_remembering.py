"""What is remembered of an operation on fake tensors is what the operation gives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.fit.simulation.remembering import Remembering
from engine.fit.simulation.tracing import Tracer

OPERATIONS: dict[str, Callable[[Tensor], object]] = {
    "a new tensor": lambda given: torch.mm(given, given),
    "another type": lambda given: given.to(torch.bfloat16),
    "a number decides the type": lambda given: (given.int() * 2, given.int() * 2.0, given.int() * True),
    "a view": lambda given: given.t()[1:],
    "views": lambda given: given.split(1),
    "in place": lambda given: given.add_(1),
    "lists": lambda given: torch._foreach_mul([given, given.t()], 2.0),
    "several": lambda given: torch.native_dropout(given, 0.5, True),
    "made of nothing": lambda given: torch.zeros(3),
}


def said(given: Tensor, found: object) -> object:
    """All that a later operation sees of what was given."""
    if isinstance(found, (list, tuple)):
        return [said(given, each) for each in found]
    assert isinstance(found, Tensor)
    shares = found.untyped_storage()._cdata == given.untyped_storage()._cdata
    layout = found.dtype, found.shape, found.stride(), found.storage_offset(), found.untyped_storage().nbytes()
    return layout, shares, found is given, found.requires_grad


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_the_second_time_gives_what_the_first_did(operation: Callable[[Tensor], object]) -> None:
    with FakeTensorMode():
        given = torch.empty(4, 4)
        alone = said(given, operation(given))
    with Tracer(capability=None):
        given = torch.empty(4, 4)
        assert said(given, operation(given)) == alone
        assert said(given, operation(given)) == alone


def test_what_was_done_before_is_not_done_again() -> None:
    remembering = Remembering()
    asked: list[object] = []

    class Counted(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            asked.append(func)
            return func(*args, **(kwargs or {}))

    with FakeTensorMode():
        short, long = torch.empty(2, 4), torch.empty(3, 4)
        with Counted():  # type: ignore[no-untyped-call]
            for given in (short, short, long):
                remembering(torch.ops.aten.relu.default, (given,), {})
    assert len(asked) == 2
