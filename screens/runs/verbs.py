"""What keys do on the Runs screen."""

from __future__ import annotations

from typing import Final

from screens.commands import Command, on_runs

VERBS: Final = (
    Command("runs.open", "enter", "open", "Open the run's page; open or fold a group.", "open"),
    Command("runs.mark", "space", "mark", "Mark the run, or all of a group, for what can be done to several.", "mark"),
    Command(
        "runs.filter",
        "/",
        "filter",
        "Show only some runs: words of the name, state=finished, loss<1.2, model~llama, tag:medical.",
        "filter",
    ),
    on_runs.PAUSE,
    on_runs.STOP,
    on_runs.RESUME,
    on_runs.QUEUE,
    on_runs.EVALUATE,
    Command("runs.diff", "d", "diff", "Show in what marked runs differ.", "diff"),
    Command("runs.overlay", "O", "overlay", "Draw the curves of marked runs one over the other.", "overlay"),
    Command("runs.why", "i", "why", "Which settings mattered: over all runs that pass the filter.", "why"),
    Command("runs.compare", "=", "compare", "Compare the marked runs' answers on Compare.", "compare"),
    Command("runs.like", "+", "like this", "Configure a run that begins with this run's profile.", "like"),
    on_runs.CHECKPOINT,
    on_runs.FACTOR,
    Command(
        "runs.export",
        "x",
        "export",
        "Merge the run's adapter into its base: a whole model in a folder. Of marked runs what is known, as a file. Asks where.",
        "export",
    ),
    Command("runs.group", "(", "group", "Put runs together by sweep, tag, base model, method, or not at all.", "group"),
    Command("runs.fold", ")", "fold", "Fold all groups, or open all.", "fold"),
    Command("runs.sort_left", "<", "sort", "Sort by the column to the left.", "sort(-1)"),
    Command("runs.sort_right", ">", "sort", "Sort by the column to the right.", "sort(1)", show=False),
    Command("runs.reverse", "r", "reverse", "Turn the order round.", "reverse", show=False),
    Command("runs.columns", "c", "columns", "Choose columns, their order, and what to sort by.", "columns"),
    Command("runs.note", "n", "note", "Write something about the run, in Markdown.", "note"),
    Command("runs.tags", "T", "tags", "Change the run's tags, or add some to marked runs.", "tags"),
    Command("runs.baseline", "B", "baseline", "Hold runs with the same validation rows against this one.", "baseline"),
    Command("runs.archive", "A", "archive", "Put runs out of sight, or back; / archived=yes shows them.", "archive"),
    on_runs.DELETE,
    Command("runs.undo", "U", "undo", "Bring back what was deleted last.", "undo"),
    on_runs.COPY,
    Command("view.zoom", "z", "zoom", "Give the table the whole screen, or take it back.", "zoom", show=False),
    Command("runs.back", "escape", "back", "Take the marks away, then the filter.", "back", show=False),
)
