"""The evaluate job: a run's suites are put to its base and to its result, batch by batch, each batch committed before
the next.

A job that was stopped or died goes on behind its last batch: the batches are the same, and answers that stand are not
asked again. What a base model once answered stands for every run on it.
"""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine import process
from engine.errors import Problem
from engine.evaluate.answers import read_answer, refusals
from engine.evaluate.measures import METRICS, questions_asked, scores
from engine.evaluate.pairing import model_key
from engine.evaluate.plan import Task, plan
from engine.evaluate.suites import Suite
from engine.ledger import Ledger, evaluations, events, jobs, runs
from engine.ledger.evaluations import Evaluation
from engine.ledger.jobs import Job
from engine.ledger.states import State
from engine.stopping import stopping

if TYPE_CHECKING:  # heavy, and it must not be loaded before the GPU is chosen
    from engine.evaluate.generate import Prompt
    from engine.evaluate.likelihood import Model

HEADLINE = ("accuracy", "consistency", "j")


def run(ledger: Ledger, job: Job) -> None:
    """Do the job's work; its argument is {"runs": [uid, ...], "suites": [name, ...]}.

    Raises:
        KeyboardInterrupt: SIGTERM or SIGINT; what is committed stays, and the next evaluation goes on from there.
        Problem: nothing to evaluate, a suite that the run has seen, a model that cannot be loaded, no memory.
    """
    argument = json.loads(job.argument)
    tasks = plan(ledger, argument["runs"], argument["suites"])
    jobs.set_state(ledger, job, State.RUNNING)
    with stopping("Stopped at once. Evaluating again goes on from the last answer.") as stop:
        progress = _Progress(ledger, job, stop)
        for task in tasks:
            progress.add(_open(ledger, task))
        for task in tasks:
            _evaluate(ledger, job, task, progress)


@dataclass(frozen=True)
class _Opened:
    """A suite with its prompts in batches and the two evaluations that they fill."""

    suite: Suite
    batches: list[list[Prompt]]
    base: Evaluation
    tuned: Evaluation


class _Progress:
    """Counts answers over the whole job, beats, and stops it where it was asked to stop."""

    def __init__(self, ledger: Ledger, job: Job, stop: threading.Event) -> None:
        self._ledger, self._job, self._stop = ledger, job, stop
        self._done = self._total = 0
        self.opened: dict[int, list[_Opened]] = {}

    def add(self, opened: tuple[int, list[_Opened]]) -> None:
        run, suites = opened
        self.opened[run] = suites
        for one in suites:
            asked = sum(map(len, one.batches))
            self._total += sum(asked for evaluation in (one.base, one.tuned) if evaluation.finished is None)
        self.tell("loading the model", 0)

    def tell(self, doing: str, answers: int) -> None:
        self._done += answers
        jobs.beat(self._ledger, self._job, done=self._done, total=self._total, doing=doing)
        if self._stop.is_set():
            raise KeyboardInterrupt("Stopped. Evaluating again goes on from the last answer.")


def _open(ledger: Ledger, task: Task) -> tuple[int, list[_Opened]]:
    """The task's evaluations, begun or found again, with the prompts of each suite."""
    from engine.evaluate.generate import batches, prompts

    base, result = _fingerprints(ledger, task)
    found: list[_Opened] = []
    for suite in task.suites:
        conditions = task.conditions(suite)
        common = {"suite": suite.name, "suite_fingerprint": suite.fingerprint, "conditions": conditions}
        name = Path(task.base.base).name
        found.append(
            _Opened(
                suite,
                batches(prompts(suite, task.renderer)),
                evaluations.begin(ledger, run=None, model=base, model_name=name, **common),
                evaluations.begin(ledger, run=task.run.id, model=result, model_name=task.run.name, **common),
            )
        )
    return task.run.id, found


def _fingerprints(ledger: Ledger, task: Task) -> tuple[str, str]:
    """What base and result are known by, from their files as they are on disk.

    Raises:
        Problem: either is not what the run was trained from or left.
    """
    from engine import folders
    from engine.train import fingerprints
    from engine.train.pretrained import fetch

    known = {"base": task.known_base, "result": runs.document(ledger, task.run).fingerprints.get("result")}
    assert task.run.result is not None  # plan saw to it
    found = {"base": fingerprints.of_base(fetch(task.base)), "result": folders.fingerprint(task.run.result)}
    names = {"base": f"The base model {task.base.base}", "result": f"The result of {task.run.name}"}
    for key, fingerprint in found.items():
        # A run that was stopped may have been gone on with since: its result is what it is now.
        settled = key == "base" or task.run.state == State.FINISHED
        if settled and known[key] not in (None, fingerprint):
            raise Problem(
                f"{names[key]} has changed since the training",
                "Its files have another fingerprint: figures would be of another model.",
                "Put the files back" + (", or train again." if key == "base" else ", or resume the run."),
                code="changed",
            )
    first = "base" if task.base == task.profile.model else "origin"
    runs.record(ledger, task.run, fingerprints={first: found["base"], "result": found["result"]})
    quantization = task.profile.model.quantization
    return model_key(found["base"], quantization), model_key(found["result"], quantization)


def _evaluate(ledger: Ledger, job: Job, task: Task, progress: _Progress) -> None:
    """Ask base and result of one run: in one loaded model where it is the base once an adapter is switched off, else one after the other."""
    from engine.train import device as devices
    from engine.train.model import load_result

    opened = progress.opened[task.run.id]
    base_left = [one for one in opened if not evaluations.is_finished(ledger, one.base)]
    tuned_left = [one for one in opened if not evaluations.is_finished(ledger, one.tuned)]
    device = devices.choose(task.profile.hardware)
    devices.set_up(device, seed=task.profile.training.seed, deterministic=False, thread_count=process.threads())
    settings, kind, path = task.profile.model, task.run.result_kind, task.run.result
    # Biases that were trained are the base's own: switching the adapter off leaves them as they have become.
    together = kind == "adapter" and task.base == settings and task.profile.method.bias == "none"
    if not together and base_left:
        model = load_result(task.base, device)
        for one in base_left:
            _ask_all(ledger, task, one, one.base, model, progress)
        del model
        gc.collect()
    if tuned_left or (together and base_left):
        model = load_result(settings, device, kind=kind, path=path)
        for one in opened:
            if together and one in base_left:
                with _without_adapter(model):
                    _ask_all(ledger, task, one, one.base, model, progress)
            if one in tuned_left:
                _ask_all(ledger, task, one, one.tuned, model, progress)
    for one in opened:
        events.add(ledger, "evaluation", _told(ledger, one), run=task.run.id, job=job.id)


@contextmanager
def _without_adapter(model: Model) -> Iterator[None]:
    from peft import PeftModel

    with model.disable_adapter() if isinstance(model, PeftModel) else nullcontext():
        yield


def _ask_all(
    ledger: Ledger, task: Task, opened: _Opened, evaluation: Evaluation, model: Model, progress: _Progress
) -> None:
    """Put every batch that is not answered yet to the model, commit it, and at the end write the scores."""
    from engine.evaluate.generate import Asker

    suite = opened.suite
    asker = Asker(model, task.renderer, task.max_new_tokens(suite))
    refusal = refusals(suite)
    answered = {(item.item, item.variant) for item in evaluations.items(ledger, evaluation)}
    doing = f"{suite.name}: {evaluation.model_name}"
    progress.tell(doing, 0)
    for batch in opened.batches:
        if not all((prompt.item.id, prompt.variant) in answered for prompt in batch):
            said = asker.ask(batch)
            rows = [
                read_answer(prompt.item, prompt.variant, one, refusal.get(prompt.item.id, ()))
                for prompt, one in zip(batch, said, strict=True)
            ]
            evaluations.add_items(ledger, evaluation, rows)
        progress.tell(doing, len(batch))
    items = evaluations.items(ledger, evaluation)
    evaluations.finish(ledger, evaluation, n=questions_asked(items), scores=scores(items))
    unasked = sum("too_long" in item.detail for item in items)
    if unasked:
        text = f"{suite.name}: {unasked} prompts do not fit the model's window and count as unanswered"
        events.add(ledger, "evaluation", text, run=task.run.id, level="warning")


def _told(ledger: Ledger, opened: _Opened) -> str:
    """Base and tuned figures in a line: `pubmedqa: accuracy 55.8 -> 71.2`."""
    base = scores(evaluations.items(ledger, opened.base))
    tuned = scores(evaluations.items(ledger, opened.tuned))
    parts = [
        f"{METRICS[name].label} {_shown(name, base[name])} -> {_shown(name, tuned[name])}"
        for name in HEADLINE
        if name in base and name in tuned
    ]
    return f"{opened.suite.name}: {', '.join(parts) or 'answered'}"


def _shown(name: str, value: float) -> str:
    return f"{100 * value:.1f}" if METRICS[name].scale == "share" else f"{value:.2f}"
