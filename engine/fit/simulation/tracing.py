"""Records what a program on fake tensors allocates: every tensor that an operation returns, until the last view of its storage is gone.

Tensors live on the CPU device, where autograd needs no device guard; what CUDA does otherwise is in `standins`. Python's reference counts
decide when a tensor dies, as they do on a GPU, so the program must be the one that will run, not something like it.
"""

from __future__ import annotations

import gc
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain, count
from types import TracebackType
from typing import Final, NamedTuple, Self
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._op_schema import OpSchema
from torch.distributed.tensor._sharding_prop import ShardingPropagator
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from engine.fit.question import Part, Phase
from engine.fit.simulation import standins
from engine.fit.simulation.known import KnownValues
from engine.fit.stream import GIVEN_BACK, Event, Stream

MADE_IN: Final[Mapping[Phase, Part]] = {
    Phase.FORWARD: Part.ACTIVATIONS,
    Phase.EVALUATION: Part.ACTIVATIONS,
}
"""What a tensor is for when nobody says; a temporary elsewhere."""


class Tracer:
    """While entered, tensors are fake and what they allocate is recorded.

    `capability`: the GPU whose kernels are stood for; None records what a CPU allocates. `vocabulary`: a tensor whose last dimension is as
    long holds logits. Phases are entered with `phase`; `follow` tells decoder layers apart; `mark` names what tensors are for.
    """

    def __init__(self, *, capability: tuple[int, int] | None, vocabulary: int | None = None) -> None:
        self.capability = capability
        self._vocabulary = vocabulary
        self._events: list[Event] = []
        self._parts: dict[int, Part] = {}  # of blocks, where not as made
        self._live: dict[int, _Held] = {}  # by storage
        self._watched: set[int] = set()  # storages that were seen and still are, those of `host` too
        self._queues: list[torch.cpu.Stream] = [torch.cpu.current_stream()]
        self._layers: dict[int, int] = {}  # block -> layer
        self._owner: dict[int, int] = {}  # parameter -> layer
        self._spans: list[tuple[int, int, int]] = []  # first and last autograd sequence number, layer
        self._numbers = count()
        self._phase = Phase.LOAD
        self._layer: int | None = None
        self._workspaces: set[bool] = set()
        self._unseen = False
        self._open = ExitStack()

    def __enter__(self) -> Self:
        gc.collect()  # so that nothing of before dies in here
        self._open.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        self._open.enter_context(standins.as_if_real())
        if self.capability:
            self._open.enter_context(standins.as_on_cuda(self.capability))
        self._open.enter_context(KnownValues())
        self._open.enter_context(_Recorder(self._record))
        self._open.enter_context(self._seeing_resizes())
        self._open.enter_context(self._overlooking_shapes())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @property
    def stream(self) -> Stream:
        """All that was recorded."""
        return tuple(
            event._replace(part=self._parts[event.block]) if event.block in self._parts else event
            for event in self._events
        )

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """What is recorded in here belongs to this phase."""
        before, self._phase = self._phase, phase
        try:
            yield
        finally:
            self._phase = before

    @contextmanager
    def layer(self, layer: int | None) -> Iterator[None]:
        """What is recorded in here belongs to this decoder layer."""
        before, self._layer = self._layer, layer
        try:
            yield
        finally:
            self._layer = before

    @contextmanager
    def host(self) -> Iterator[None]:
        """Tensors made in here stay in the memory of the machine, and are not recorded."""
        before, self._unseen = self._unseen, True
        try:
            yield
        finally:
            self._unseen = before

    def follow(self, layers: Sequence[nn.Module]) -> None:
        """Tell what belongs to each of these modules: forward, recomputed, backward, and of their parameters."""
        for index, module in enumerate(layers):
            self.own(index, module.parameters())
            module.register_forward_pre_hook(self._entering(index))
            module.register_forward_hook(
                self._leaving(index), always_call=True
            )  # recomputing ends early, by an exception

    def own(self, layer: int, parameters: Iterable[Tensor]) -> None:
        """These parameters, of what is cut this rank's share, belong to a decoder layer."""
        self._owner |= {id(tensor): layer for parameter in parameters for tensor in (parameter, _local(parameter))}

    def mark(self, part: Part, tensors: Iterable[Tensor]) -> None:
        """What tensors are for, from when they were made."""
        for tensor in tensors:
            held = self._live.get(_local(tensor).untyped_storage()._cdata)
            if held is not None:
                self._parts[held.block] = part

    def take(self, size: int, part: Part = Part.TEMPORARIES) -> Callable[[], None]:
        """Allocate bytes that no tensor stands for; call what comes back to free them."""
        return self._allocate(size, part)

    def empty_cache(self) -> None:
        """What `torch.cuda.empty_cache` does here."""
        self._events.append(Event(GIVEN_BACK, GIVEN_BACK, Part.TEMPORARIES, self._phase))

    def _entering(self, index: int) -> Callable[..., None]:
        def enter(module: nn.Module, inputs: object) -> None:
            self._layer = index
            self._spans.append((torch._C._autograd._get_sequence_nr(), -1, index))

        return enter

    def _leaving(self, index: int) -> Callable[..., None]:
        def leave(module: nn.Module, inputs: object, output: object) -> None:
            self._layer = None
            start = self._spans[-1][0]
            self._spans[-1] = (start, torch._C._autograd._get_sequence_nr(), index)

        return leave

    def _record(self, operation: torch._ops.OpOverload, args: tuple[object, ...], returned: object) -> None:
        if operation is torch.ops.aten.lift_fresh.default:  # NumPy's memory, or a number's
            return
        taken = self._temporaries(standins.BEFORE, operation, args)
        made = [returned] if isinstance(returned, Tensor) else returned if isinstance(returned, (list, tuple)) else ()
        for index, tensor in enumerate(made):
            if isinstance(tensor, Tensor):
                self._see(tensor, args, index)
        self._workspace_of(operation)
        for free in [*taken, *self._temporaries(standins.AFTER, operation, args)]:
            free()

    def _see(self, tensor: Tensor, args: tuple[object, ...], index: int) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._watched or not size or tensor.device.type == "meta":
            return
        self._watched.add(key)
        weakref.finalize(storage, self._gone, key).atexit = False
        if self._unseen:
            return
        logits = self._vocabulary and tensor.ndim > 1 and tensor.shape[-1] == self._vocabulary
        part = Part.LOGITS if logits and self._phase is not Phase.LOAD else self._made_for()
        self._hold(key, size, part, self._layer_of(args, index))

    def _hold(self, key: int, size: int, part: Part, layer: int | None) -> None:
        free = self._allocate(size, part, layer)
        self._live[key] = _Held(self._events[-1].block, free)

    def _gone(self, key: int) -> None:
        self._watched.discard(key)
        if held := self._live.pop(key, None):
            held.free()

    @contextmanager
    def _overlooking_shapes(self) -> Iterator[None]:
        """DTensor learns the shape that an operation gives by doing it with whole tensors, which are fake in any run, and remembers it."""
        learns = ShardingPropagator._propagate_tensor_meta_non_cached

        def learning(propagator: ShardingPropagator, operation: OpSchema) -> object:
            with self.host():
                return learns(propagator, operation)

        with mock.patch.object(ShardingPropagator, "_propagate_tensor_meta_non_cached", learning):
            yield

    @contextmanager
    def _seeing_resizes(self) -> Iterator[None]:
        """FSDP empties the storage of what it has gathered and fills it again, which is no operation on a tensor."""
        resize = torch.UntypedStorage.resize_

        def resized(storage: torch.UntypedStorage, size: int) -> torch.UntypedStorage:
            key = storage._cdata
            if held := self._live.pop(key, None):
                held.free()
            resize(storage, size)
            if size and key in self._watched:
                self._hold(key, size, self._made_for(), self._layer_of((), 0))
            return storage

        with mock.patch.object(torch.UntypedStorage, "resize_", resized):
            yield

    def _workspace_of(self, operation: torch._ops.OpOverload) -> None:
        """What cuBLAS takes at the first product of matrices in a thread; the engine of autograd has one of its own for the device."""
        backward = torch._C._current_autograd_node() is not None
        multiplies = self.capability and not self._unseen and operation.overloadpacket in standins.GEMMS
        if self.capability and multiplies and backward not in self._workspaces:
            self._workspaces.add(backward)
            self._allocate(standins.workspace(self.capability), Part.TEMPORARIES)

    def _temporaries(
        self,
        known: Mapping[object, Callable[..., list[int]]],
        operation: torch._ops.OpOverload,
        args: tuple[object, ...],
    ) -> list[Callable[[], None]]:
        """What a CUDA kernel takes besides what it returns."""
        sizes = known.get(operation.overloadpacket) if self.capability and not self._unseen else None
        return (
            [self._allocate(size, Part.TEMPORARIES, self._layer_of(args, 0)) for size in sizes(*args)] if sizes else []
        )

    def _made_for(self) -> Part:
        if self._phase is Phase.BACKWARD and self._layer is not None:  # recomputed
            return Part.ACTIVATIONS
        return MADE_IN.get(self._phase, Part.TEMPORARIES)

    def _allocate(self, size: int, part: Part, layer: int | None = None) -> Callable[[], None]:
        block = next(self._numbers)
        self._events.append(Event(block, size, part, self._phase, layer, self._queue()))
        if layer is not None:
            self._layers[block] = layer

        def free() -> None:
            self._events.append(Event(block, 0, part, self._phase, layer))

        return free

    def _queue(self) -> int:
        """Which CUDA stream it would be; on a CPU there is one."""
        stream = torch.cpu.current_stream()
        if not self.capability or stream is self._queues[0]:
            return 0
        if stream not in self._queues:
            self._queues.append(stream)
        return self._queues.index(stream)

    def _layer_of(self, args: tuple[object, ...], index: int) -> int | None:
        """The decoder layer that is at work: by the module, by the autograd node, or by the tensor that is worked on."""
        if self._layer is not None:
            return self._layer
        node = torch._C._current_autograd_node()
        if node is not None:
            variable = getattr(node, "variable", None)  # a gradient is accumulated into it
            return self._owner.get(id(variable)) if variable is not None else self._layer_at(node._sequence_nr())
        if self._phase in (Phase.STEP, Phase.LOAD, Phase.SAVING):
            worked = args[0] if args else None
            if isinstance(worked, (list, tuple)) and index < len(worked):  # one operation over all parameters
                worked = worked[index]
            if isinstance(worked, Tensor):
                held = self._live.get(worked.untyped_storage()._cdata)
                return self._owner.get(id(worked), self._layers.get(held.block) if held else None)
        return None

    def _layer_at(self, sequence: int) -> int | None:
        at = bisect_right(self._spans, sequence, key=lambda span: span[0]) - 1
        if at >= 0 and self._spans[at][0] <= sequence < self._spans[at][1]:
            return self._spans[at][2]
        return None


def _local(tensor: Tensor) -> Tensor:
    return tensor._local_tensor if isinstance(tensor, DTensor) else tensor


class _Held(NamedTuple):
    """The block of a storage, and how it is freed."""

    block: int
    free: Callable[[], None]


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tells of each operation what it returned."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled in here; the guard against it costs a tenth of the time

    def __init__(self, told: Callable[[torch._ops.OpOverload, tuple[object, ...], object], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._told = told

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # let it be done in operations on this rank's share, which come here
        if func is torch.ops.prim.device.default and isinstance(args[0], FakeTensor):
            return args[0].fake_device  # every other call is this one, and goes a long way otherwise
        returned = standins.INSTEAD.get(func, func)(*args, **(kwargs or {}))
        self._told(func, args, returned)
        return returned


def tensors(*held: object) -> Iterator[Tensor]:
    """All tensors in a nest of containers."""
    return (each for each in chain.from_iterable(tree_iter(nest) for nest in held) if isinstance(each, Tensor))
