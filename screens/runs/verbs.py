"""What keys do on the Runs screen."""

from __future__ import annotations

from typing import Final

from screens.commands import Command, on_runs

VERBS: Final = (
    Command("runs.open", "enter", "open", "Watch the run on Monitor.", "open"),
    Command("runs.mark", "space", "mark", "Mark the run, to diff, compare or delete several.", "mark"),
    Command(
        "runs.filter", "/", "filter", "Show only some runs: words of the name, state=running, model~qwen.", "filter"
    ),
    Command("runs.diff", "d", "diff", "Show the settings in which marked runs differ.", "diff"),
    on_runs.PAUSE,
    on_runs.STOP,
    on_runs.RESUME,
    on_runs.QUEUE,
    on_runs.EVALUATE,
    Command("runs.compare", "=", "compare", "Compare the marked runs' answers on Compare.", "compare"),
    Command("runs.like", "+", "like this", "Configure a run that begins with this run's profile.", "like"),
    Command("runs.note", "n", "note", "Write something about the run.", "note"),
    on_runs.CHECKPOINT,
    on_runs.FACTOR,
    Command(
        "runs.export",
        "x",
        "export",
        "Merge the run's adapter into its base: a whole model in a folder. Asks where.",
        "export",
    ),
    on_runs.DELETE,
    on_runs.COPY,
    Command("runs.back", "escape", "back", "Take the marks away, then the filter.", "back", show=False),
)
