"""The trackers that metrics can be mirrored to, each behind the same three calls. Imported by the mirror's process only."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from engine.ledger.runs import Run

PROJECT: Final = "workbench"  # where the tracker's own variable (WANDB_PROJECT, TRACKIO_PROJECT) names none


class Tracker(Protocol):
    """One run in somebody else's tracker; `look` is how a person sees it there. `log` is called with rising steps, for one step perhaps
    several times.
    """

    look: str

    def log(self, step: int, time: float, values: Mapping[str, float]) -> None:
        """Values of some metrics at an optimizer step; `time` in seconds since the epoch."""

    def flush(self) -> None:
        """What was logged outlives this process."""

    def close(self) -> None:
        """There is no more for now; a run that is resumed is opened again."""


class TensorBoard:
    """Event files in a folder of the run's."""

    def __init__(self, run: Run, settings: Mapping[str, object], folder: Path) -> None:
        from tensorboardX import SummaryWriter

        self.look = f"tensorboard --logdir {folder}"
        self._writer = SummaryWriter(logdir=str(folder), flush_secs=3600)
        self._writer.add_text("settings", f"```\n{json.dumps(settings, indent=1)}\n```", 0)

    def log(self, step: int, time: float, values: Mapping[str, float]) -> None:
        """A scalar each, with the time at which it was measured."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step, walltime=time)

    def flush(self) -> None:
        """To the file."""
        self._writer.flush()

    def close(self) -> None:
        """The next time there is another file in the folder."""
        self._writer.close()


class Wandb:
    """wandb, where and as whom the user's own settings say: WANDB_MODE=offline keeps it on this machine."""

    def __init__(self, run: Run, settings: Mapping[str, object], folder: Path) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=run.uid,
            name=run.name,
            dir=str(folder),
            config=dict(settings),
            resume="allow",
            settings=wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True),
        )
        self.look = self._run.url or f"wandb sync {Path(self._run.dir).parent}"

    def log(self, step: int, time: float, values: Mapping[str, float]) -> None:
        """Sent when a later step comes."""
        self._run.log(dict(values), step=step)

    def flush(self) -> None:
        """Its service writes behind our back: what it was given outlives us."""

    def close(self) -> None:
        """And wait until all is sent."""
        self._run.finish()


class Trackio:
    """trackio's own database on this machine, or the Space that TRACKIO_SPACE_ID names."""

    def __init__(self, run: Run, settings: Mapping[str, object], folder: Path) -> None:
        import trackio

        project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        self._run = trackio.init(
            project=project,
            name=f"{run.name}-{run.uid[:4]}",
            config=dict(settings),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        self.look = f"trackio show --project {project}"

    def log(self, step: int, time: float, values: Mapping[str, float]) -> None:
        """Sent by a thread of its own."""
        self._run.log(dict(values), step=step)

    def flush(self) -> None:
        """Its thread sends twice a second."""

    def close(self) -> None:
        """And wait until all is sent."""
        self._run.finish()


OPEN: Final[Mapping[str, Callable[[Run, Mapping[str, object], Path], Tracker]]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "trackio": Trackio,
}
