"""Out of memory: the same work again in smaller pieces, so that a run goes on and still means the same.

A failed attempt leaves nothing behind: gradients are dropped, the random generators put back to where it began. The micro-batch is
halved for the rest of the run; the effective batch and its loss stay as they are. Where another process on the GPU has grown, it is
waited for instead. How often the micro-batch was halved, and behind which step, is part of the run: it stands in the checkpoints, and
in the ledger for a resume from before.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Literal, TypeVar

import torch
from torch import nn

from engine.data.prepare import Tokens
from engine.ending import ran_out
from engine.errors import Problem
from engine.ledger import events
from engine.train import generators, step
from engine.train.batches import Layout, example_lengths
from engine.train.checkpoint import Progress
from engine.train.neighbours import Neighbours
from engine.train.parts import Parts

Work = Literal["training", "validation", "reference"]
T = TypeVar("T")
KIND: Final = "memory"  # of the events that a resumed run replays
PATIENCE: Final = 600.0  # seconds for which another process is waited for while smaller pieces could do


class DoesNotFit(Problem):
    """Not even one example at a time fits; the weights are those of the last finished step."""


def smaller(layout: Layout, tokens: Tokens) -> Layout | None:
    """Half the rows at once, down to one example; of packed rows then half the tokens, down to the longest example. None: neither can be."""
    packed = layout.row_tokens is not None
    least = 1 if packed else tokens.per_example
    if layout.rows_at_once > least:
        return replace(layout, rows_at_once=max(least, layout.rows_at_once // 2))
    if layout.row_tokens is None:
        return None
    longest = int(example_lengths(tokens, range(tokens.examples)).max())
    return replace(layout, row_tokens=max(longest, layout.row_tokens // 2)) if layout.row_tokens > longest else None


def free(model: nn.Module) -> None:
    """Let go of what a failed attempt left: gradients, cycles that hold tensors, torch's cache."""
    model.zero_grad(set_to_none=True)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def update(optimizer: torch.optim.Optimizer) -> None:
    """`step.update`, which may be tried again after running out of memory as long as it has not moved a weight.

    Raises:
        Problem: it ran out of memory half-way.
    """
    stood = _counters(optimizer)
    try:
        step.update(optimizer)
    except (RuntimeError, MemoryError) as error:
        if ran_out(error):
            if any(count != stood.get(weight, 0) for weight, count in _counters(optimizer).items()):
                raise Problem(
                    "Out of memory while the weights were moved",
                    f"Some were, some were not. {_first_line(error)}",
                    "Resume the run: it goes on from its last checkpoint. A smaller state: training.optimizer = adamw_8bit.",
                    code="OOM",
                ) from error
            for weight in set(optimizer.state) - set(stood):
                del optimizer.state[weight]  # half-made
        raise


def _counters(optimizer: torch.optim.Optimizer) -> dict[torch.Tensor, int]:
    """How often each weight was moved, by the optimizers that allocate while they move: they count first. AdamW is fused and does not."""
    found: dict[torch.Tensor, int] = {}
    for weight, state in optimizer.state.items():
        count = state.get("step", 0)
        found[weight] = count if isinstance(count, int) else 0  # AdamW counts on the GPU, where asking costs time
    return found


class Backoff:
    """Does memory-hungry work of one run, in ever smaller pieces where it has to."""

    def __init__(self, parts: Parts, progress: Progress, wait: Callable[[str], None]) -> None:
        """`wait` takes about a second and is told what for; it raises when the run is to stop."""
        self._parts = parts
        self._progress = progress
        self._wait = wait
        self._neighbours = Neighbours(parts.loaded.device)
        self._before = [
            event for event in events.of_kind(parts.ledger, parts.run.id, KIND) if "halvings" in event.detail
        ]

    def layout(self, work: Work) -> Layout:
        """The pieces in which this work is done now, after what happened behind this step before a resume."""
        done = self._progress.halvings
        for event in self._before:
            if event.step is not None and event.step <= self._progress.step and event.detail["work"] == work:
                done[work] = max(done.get(work, 0), int(str(event.detail["halvings"])))
        layout = self._parts.layout
        for _ in range(done.get(work, 0)):
            layout = smaller(layout, self._tokens(work)) or layout
        return layout

    def attempt(self, work: Work, do: Callable[[Layout], T]) -> T:
        """What `do` returns for a layout in which it fits.

        Raises:
            DoesNotFit: there is none.
        """
        while True:
            layout = self.layout(work)
            before = generators.torch_states()
            try:
                return do(layout)
            except (RuntimeError, MemoryError) as error:
                # A rank cannot try again alone: the others wait for it in the middle of a sum.
                if not ran_out(error) or self._parts.ranks.world > 1:
                    raise
                words = _first_line(error)
            # Only here, behind the handler, is what the failed attempt held free.
            free(self._parts.loaded.model)
            self._parts.memory.forget()
            generators.restore_torch(before)
            if not self._waited(layout, work):
                self._halve(work, layout, words)

    def _tokens(self, work: Work) -> Tokens:
        prepared = self._parts.prepared
        return prepared.validation if work == "validation" else prepared.train

    def _waited(self, layout: Layout, work: Work) -> bool:
        """Whether another process had grown and has let go again; False where none had, or where smaller pieces are tried instead."""
        if not self._neighbours.grew:
            return False
        whose = self._neighbours.named()
        text = f"Out of memory behind step {self._progress.step}: others on the GPU have grown ({whose}). Waiting for them."
        self._parts.event("waiting", text, step=self._progress.step, level="warning")
        began = time.monotonic()
        while self._neighbours.grew:
            if time.monotonic() - began > PATIENCE and smaller(layout, self._tokens(work)):
                return False
            self._wait(f"waiting for GPU memory that {whose} holds")
        return True

    def _halve(self, work: Work, layout: Layout, words: str) -> None:
        after = smaller(layout, self._tokens(work))
        if after is None:
            raise self._does_not_fit(work, words)
        progress, parts = self._progress, self._parts
        progress.halvings[work] = progress.halvings.get(work, 0) + 1
        text = f"Out of memory in {work} behind step {progress.step}: {_sizes(layout)} became {_sizes(after)}. {words}"
        detail: dict[str, object] = {
            "work": work,
            "halvings": progress.halvings[work],
            "rows_at_once": after.rows_at_once,
            "row_tokens": after.row_tokens,
        }
        # Not `parts.event`, which may fail unnoticed: what is not in the ledger cannot be replayed.
        events.add(
            parts.ledger,
            KIND,
            text,
            run=parts.run.id,
            job=parts.job.id,
            step=progress.step,
            level="warning",
            detail=detail,
        )

    def _does_not_fit(self, work: Work, words: str) -> DoesNotFit:
        profile = self._parts.profile
        ways = [f"template.max_tokens below {profile.template.max_tokens}"]
        if not profile.training.checkpoint_activations:
            ways.insert(0, "training.checkpoint_activations = true")
        if profile.model.quantization == "none" and profile.method.name != "full":
            ways.append("model.quantization = nf4")
        if profile.method.name == "full":
            ways.append("method.name = lora")
        return DoesNotFit(
            f"Out of memory at step {self._progress.step}: not even one example at a time fits in {work}",
            words,
            f"Start the profile anew with {' or '.join(ways)}. If others held the memory, resume the run when it is free.",
            code=f"OOM at {self._progress.step}",
        )


def _sizes(layout: Layout) -> str:
    rows = f"{layout.rows_at_once} row{'s' if layout.rows_at_once > 1 else ''} at once"
    return rows if layout.row_tokens is None else f"{rows} of {layout.row_tokens} tokens"


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
