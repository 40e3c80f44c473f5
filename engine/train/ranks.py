"""Several processes that train one run together: who they are, what each is given to do, and how they agree.

Each rank reads the same data and computes the same plan, so only numbers, orders and gradients travel. Rank 0 is the one that writes;
what it reads from outside - orders, signals, the clock - it tells the others, so that all do the same at the same step.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypedDict, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import nn

from engine.data.prepare import Tokens
from engine.train.batches import Layout, MicroBatch, example_lengths, micro_batches

# A rank that dies is noticed by torchrun; only reading huge data or writing a huge checkpoint makes the others wait for long.
PATIENCE: Final = timedelta(days=1)
Word = TypeVar("Word")


class Replicas(TypedDict):
    """What DistributedDataParallel is told."""

    broadcast_buffers: bool
    find_unused_parameters: bool


REPLICAS: Final[Replicas] = {"broadcast_buffers": False, "find_unused_parameters": True}
"""Experts that no token of a rank reached have no gradient there, so unused parameters are looked for; the buckets then also stay as they
were first cut, which a resumed run has to repeat bit for bit."""


@dataclass(frozen=True)
class Piece:
    """A micro-batch that this rank runs; `last` is its last of the step.

    One that does not count is a stand-in: where all ranks have to take part and this one has nothing left to do, it runs again what another
    has, for nothing.
    """

    batch: MicroBatch
    counts: bool
    last: bool


@dataclass(frozen=True)
class Ranks:
    """Which of `world` processes this is; every method but `writes` has to be called by all of them, in the same order."""

    rank: int = 0
    world: int = 1

    @property
    def writes(self) -> bool:
        """Whether this is the one that writes checkpoints, results and the ledger."""
        return self.rank == 0

    def tell(self, word: Word) -> Word:
        """What rank 0 says, whatever the others give."""
        if self.world == 1:
            return word
        said: list[Any] = [word]
        dist.broadcast_object_list(said, src=0, device=torch.device("cpu"))
        found: Word = said[0]
        return found

    def gathered(self, own: Word) -> list[Word]:
        """What each rank gives, by rank."""
        if self.world == 1:
            return [own]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, own)
        return found

    def summed(self, own: Mapping[str, float]) -> dict[str, float]:
        """The sums over all ranks of numbers by name (every rank gives the same names), in float64 and in the order of ranks."""
        if self.world == 1:
            return dict(own)
        parts = [torch.empty(len(own), dtype=torch.float64) for _ in range(self.world)]
        dist.all_gather(parts, torch.tensor(list(own.values()), dtype=torch.float64))
        return dict(zip(own, torch.stack(parts).sum(dim=0).tolist(), strict=True))

    def wait(self) -> None:
        """Until all ranks are here."""
        self.tell(None)
        self.gathered(None)

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Rank 0 first, the others when it is done: they find what it made."""
        if not self.writes:
            self.wait()
        yield
        if self.writes:
            self.wait()

    def share(self, tokens: Tokens, examples: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """This rank's examples: dealt out longest first, there and back, so that all get as many and about as many tokens."""
        examples = np.asarray(examples, np.int64)
        if self.world == 1:
            return examples
        ordered = examples[np.lexsort((examples, -example_lengths(tokens, examples)))]
        lap, place = np.divmod(np.arange(len(ordered)), self.world)
        own: NDArray[np.int64] = ordered[np.where(lap % 2, self.world - 1 - place, place) == self.rank]
        return own

    def pieces(
        self, tokens: Tokens, examples: Sequence[int] | NDArray[np.int64], layout: Layout, *, equally: bool
    ) -> Iterator[Piece]:
        """This rank's micro-batches, at least one; `equally` many on all, where each forward pass gathers weights from all (`sharded`)."""
        own = self.share(tokens, examples)
        found: Iterable[MicroBatch] = micro_batches(tokens, own, layout) if len(own) else ()
        missing = 0 if len(own) else 1
        if equally and self.world > 1:
            found = list(found)
            missing = max(self.gathered(len(found))) - len(found)
        if not missing:
            before = None
            for batch in found:
                if before is not None:
                    yield Piece(before, counts=True, last=False)
                before = batch
            if before is not None:
                yield Piece(before, counts=True, last=True)
            return
        yield from (Piece(batch, counts=True, last=False) for batch in found)
        shortest = np.asarray(examples)[example_lengths(tokens, examples).argmin()]
        stand_in = next(micro_batches(tokens, [int(shortest)], layout))
        yield from (Piece(stand_in, counts=False, last=place == missing) for place in range(1, missing + 1))


ALONE: Final = Ranks()


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """The ranks that torchrun started this process among; numbers and words travel over the CPU, gradients over the device.

    `device` is cpu or cuda. Leaving it without an exception waits for all.
    """
    backend = "gloo" if device == "cpu" else f"cpu:gloo,{device}:nccl"
    if device != "cpu":
        _go_round_what_cards_lack()
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        ranks = Ranks(dist.get_rank(), dist.get_world_size())
        yield ranks
        ranks.wait()
    finally:
        dist.destroy_process_group()


def _go_round_what_cards_lack() -> None:
    """RTX 40 cards say that they reach each other's memory, and with drivers before 550.40 do not: NCCL must not try.

    accelerate would otherwise refuse to work; its own launcher does the same.
    """
    from accelerate.utils import check_cuda_p2p_ib_support  # type: ignore[import-untyped]

    if not check_cuda_p2p_ib_support():
        os.environ.setdefault("NCCL_P2P_DISABLE", "1")
        os.environ.setdefault("NCCL_IB_DISABLE", "1")


def replicated(scorer: nn.Module, device: torch.device) -> nn.Module:
    """The scorer with a copy on each rank, whose gradients are averaged in the backward pass outside of `apart`; through accelerate."""
    from accelerate import Accelerator  # type: ignore[import-untyped]
    from accelerate.utils import DistributedDataParallelKwargs

    kinds = DistributedDataParallelKwargs(**REPLICAS)
    accelerator = Accelerator(cpu=device.type == "cpu", kwargs_handlers=[kinds], device_placement=False)
    wrapped = accelerator.prepare_model(scorer)
    assert isinstance(wrapped, nn.parallel.DistributedDataParallel), "accelerate saw no other ranks"
    return wrapped


def apart(scorer: nn.Module, *, last: bool) -> AbstractContextManager[None]:
    """Around forward and backward of a micro-batch: gradients of replicas travel only with the `last` of a step."""
    if last or not isinstance(scorer, nn.parallel.DistributedDataParallel):
        return nullcontext()
    quiet: AbstractContextManager[None] = scorer.no_sync()
    return quiet
