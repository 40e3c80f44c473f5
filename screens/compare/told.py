"""What is told in words: the headline, the row under the cursor, a question with both answers, an evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from textual.content import Content

from engine.evaluate.behind import Answer, Behind
from engine.evaluate.compare import Comparison, ComparisonRow
from engine.evaluate.measures import METRICS
from engine.evaluate.wording import figure, probability
from engine.ledger.jobs import Job
from engine.ledger.states import LIVE, State
from screens.compare.forest import spoken

VERDICTS: Final = {
    "better": ("▲ better", "$text-success"),
    "worse": ("▼ worse", "$text-error"),
    "kept": ("= kept", "$text-success"),
    "cannot tell": ("? cannot tell", "$foreground-muted"),
}
OUTCOMES: Final = {
    "lost": ("▼ lost", "$text-error"),
    "won": ("▲ won", "$text-success"),
    "same": ("· same", "$foreground-muted"),
}
WELCOME: Final = (
    ("Nothing to compare yet.\n\n", "bold"),
    ("  3", "bold $text-accent"),
    "  configure a run and let it finish\n",
    ("  E", "bold $text-accent"),
    "  then ask it and its base the questions of a suite\n",
    ("  a", "bold $text-accent"),
    "  choose which runs stand here\n\n",
    ("From a shell, ", "$foreground-muted"),
    "workbench evaluate RUN --suite retention",
    (" asks and ", "$foreground-muted"),
    "workbench compare RUN",
    (" tells.", "$foreground-muted"),
)
LABEL: Final = 7  # columns
SHORT: Final = 12  # lines of a pane that has room for one question, but not for what a metric means in full
BAR: Final = 20  # columns


def welcome(*, title: bool = True) -> Content:
    """What can be done where there is nothing to compare; without `title` where that has been said."""
    return Content.assemble(*WELCOME[0 if title else 1 :])


def headline(comparison: Comparison) -> Content:
    """The verdict, a line for each pair, in the colour of what weighs most."""
    verdicts = {row.verdict for row in comparison.rows if row.main}
    style = "$text-error" if "worse" in verdicts else "$text-success" if verdicts & {"better", "kept"} else "$text"
    words = comparison.headline.replace("; ", "\n")
    return Content.styled(words, f"bold {style}" if comparison.rows else "bold")


def row_told(row: ComparisonRow, behind: Sequence[Behind], width: int, lines: int) -> Content:
    """The selected row: figures in words, what the metric means, and as many questions, lost ones first, as there are
    lines for.
    """
    counts = {outcome: sum(one.outcome == outcome for one in behind) for outcome in ("won", "lost", "same")}
    words, style = VERDICTS[row.verdict]
    made = [
        Content.assemble(
            (row.title, "bold"),
            f"  {row.run} against {row.against}  ",
            (words, style),
        ),
        Content(spoken(row)),
        Content(
            f"{f'p {probability(row.p)} · ' if row.p is not None else ''}sees from {figure(row.metric, row.visible)} · "
            f"{counts['won']} won, {counts['lost']} lost, {counts['same']} same"
        ),
    ]
    note = Content.styled(row.note or METRICS[row.metric].meaning, "$foreground-muted")
    made += note.wrap(width) if lines > SHORT else [note]
    seen: Counter[str] = Counter()
    for one in behind:
        if len(made) >= lines:
            break
        seen[one.outcome] += 1
        numbered = f"{one.outcome} {seen[one.outcome]} of {counts[one.outcome]}"
        made += [Content.styled(numbered, OUTCOMES[one.outcome][1]), *question(one, width)]
    return Content("\n").join(line.truncate(width, ellipsis=True) for line in made[:lines])


def question(one: Behind, width: int) -> list[Content]:
    """The question, what both said and what is right, a line each."""
    made = [_labelled("Q", one.prompt), _said("base", one.base), _said("tuned", one.tuned)]
    return [
        line.truncate(width, ellipsis=True) for line in ([*made, _labelled("gold", one.gold)] if one.gold else made)
    ]


def answer(name: str, said: Answer, width: int) -> Content:
    """All that one model wrote, wrapped."""
    title = Content.assemble((f"{name}  ", "bold"), mark(said), said.read)
    text = [part for line in (said.text or "(nothing)").splitlines() for part in (Content(line or " ").wrap(width))]
    return Content("\n").join([title.truncate(width, ellipsis=True), *text])


def mark(said: Answer) -> Content:
    """✓ or ✗, where the metric knows right from wrong."""
    if said.right is None:
        return Content("")
    return Content.styled("✓ ", "$text-success") if said.right else Content.styled("✗ ", "$text-error")


def work(job: Job, state: State) -> Content:
    """An evaluation at work with its progress, or how it ended."""
    if state not in LIVE:
        cause = f": {job.message.splitlines()[0]}" if job.message else ""
        style = "$text-warning" if state is State.STOPPED else "$text-error"
        return Content.styled(f"evaluation {state}{cause}  E goes on with it", style)
    done = min(1.0, job.done / job.total) if job.total else 0.0
    filled = round(BAR * done)
    share = f" {job.done} of {job.total} answers" if job.total else ""
    return Content.assemble(
        ("● evaluating ", "$text-success"),
        job.doing or state.value,
        "  ",
        ("█" * filled, "$text-success"),
        ("░" * (BAR - filled), "$foreground-muted"),
        share,
    )


def _said(name: str, said: Answer) -> Content:
    written = " ".join(said.text.split())
    told = f"{said.read}  {written}" if written and written != said.read else said.read
    return Content.styled(f"{name:<{LABEL}}", "$foreground-muted") + mark(said) + Content(told)


def _labelled(label: str, text: str) -> Content:
    return Content.styled(f"{label:<{LABEL}}", "$foreground-muted") + Content(" ".join(text.split()))
