"""How a job ends: a state, a cause in a word or two, and a message that says what happened and what to do."""

from __future__ import annotations

import errno
import sqlite3
from dataclasses import dataclass
from typing import Final

from engine.errors import Problem
from engine.ledger.states import State

HEAVY: Final = frozenset({"torch", "transformers", "peft", "bitsandbytes", "accelerate", "datasets", "safetensors"})
BY_ORDER: Final = "Stopped by order"  # begins the message of whoever stops because a person said so
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
# Besides torch's own exception: the CPU's allocator, cuBLAS, and allocations that do not go through torch's.
OUT_OF_MEMORY: Final = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDA error: out of memory")


@dataclass(frozen=True)
class Ending:
    """How a job ended: what its row says."""

    state: State
    cause: str = ""
    message: str = ""

    @property
    def code(self) -> int:
        """The process's exit status."""
        return {State.FINISHED: 0, State.STOPPED: 130}.get(self.state, 1)


def explain(error: BaseException, *, step: int) -> Ending:
    """The ending that an exception stands for; `step` is where the run was."""
    if isinstance(error, KeyboardInterrupt):
        message = (
            str(error)
            or "Stopped by signal while it was starting. Resuming goes on from the last checkpoint, if there is one."
        )
        # What was stopped by order stays so; what a reboot or a preemption stopped is resumed by `workbench runs resume --all`.
        return Ending(State.STOPPED, "order" if message.startswith(BY_ORDER) else "signal", message)
    if isinstance(error, Problem):
        return Ending(State.FAILED, error.code or "problem", str(error))
    words = str(error).splitlines()[0] if str(error) else ""
    if ran_out(error):
        advice = "Lower training.micro_batch or template.max_tokens, or set training.checkpoint_activations = true."
        return Ending(State.FAILED, f"OOM at {step}", f"Out of memory at step {step}\n{words}\n{advice}")
    if _is_full(error):
        advice = "Free some space, then resume the run: it goes on from its last checkpoint, which is whole."
        return Ending(State.FAILED, "disk", f"The disk is full\n{words}\n{advice}")
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in HEAVY:
        missing = (error.name or "").partition(".")[0]
        install = "Install what training needs: pip install 'finetune-workbench[engine]'"
        return Ending(State.FAILED, missing, f"{missing} is not installed\nTraining and evaluation need it.\n{install}")
    kind = type(error).__name__
    return Ending(
        State.FAILED, kind, f"{kind}: {words}\nThis is a fault of the program; the job's log has the details."
    )


def ran_out(error: BaseException) -> bool:
    """Whether an exception says that there is no more memory."""
    # By its name, because torch's is not to be imported here.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def _is_full(error: BaseException) -> bool:
    """A full disk, as the system, SQLite or the safetensors library says it."""
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    if isinstance(error, sqlite3.OperationalError) and "disk is full" in str(error):
        return True
    return type(error).__name__ == "SafetensorError" and any(f"os error {number}" in str(error) for number in FULL)
