"""What capital letters do to a run, on every screen that has one in hand."""

from __future__ import annotations

from typing import Final

from screens.commands import Command

PAUSE: Final = Command("run.pause", "P", "pause", "Pause the run after this step, or let a paused one go on.", "pause")
CHECKPOINT: Final = Command("run.checkpoint", "C", "checkpoint", "Save a checkpoint after this step.", "checkpoint")
STOP: Final = Command("run.stop", "S", "stop", "Stop the run with a checkpoint; it can be resumed. Asks first.", "stop")
RESUME: Final = Command(
    "run.resume", "R", "resume", "Go on from the newest checkpoint of a run that has ended.", "resume"
)
QUEUE: Final = Command(
    "run.queue",
    "Q",
    "queue",
    "Give a waiting run another place in the queue; queue one that has ended to go on.",
    "queue",
)
EVALUATE: Final = Command(
    "run.evaluate", "E", "evaluate", "Validate a live run now; evaluate one that has ended with suites.", "evaluate"
)
DELETE: Final = Command(
    "run.delete", "D", "delete", "Put the run with its files into the bin; U brings it back. Asks first.", "delete"
)
FACTOR: Final = Command(
    "run.factor", "F", "rate factor", "Multiply the scheduled learning rate from the next step on.", "factor"
)
COPY: Final = Command(
    "run.copy", "y", "copy", "Copy the run's uid to the clipboard, for a command line.", "copy", show=False
)
