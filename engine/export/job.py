"""The export job: a run's result as a whole model in a folder, read back and held against the run before it is said to be there."""

from __future__ import annotations

import gc
import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel

from engine import folders, process
from engine.assignment import profile_of, run_of
from engine.data import prepare
from engine.data.tokenizer import load_tokenizer
from engine.errors import Problem
from engine.export import merge, verify
from engine.export.verify import Check, Said
from engine.ledger import Ledger, artifacts, events, jobs, runs
from engine.ledger.jobs import Job
from engine.ledger.runs import Run
from engine.ledger.states import State
from engine.profile import Profile
from engine.stopping import stopping
from engine.storage import free_bytes
from engine.train import fingerprints
from engine.train.model import put_on
from engine.train.pretrained import fetch
from engine.train.result import TOKENIZER_FILES

SPARE: Final = 1.05  # a model may be this much larger than the weights that it is made from
STOPPED: Final = "Stopped. Nothing was left behind."
GB: Final = 1e9


def run(ledger: Ledger, job: Job) -> None:
    """Do the job's work; its argument is {"format": "merged", "out": folder}. The last event of kind `export` holds path and checks.

    Raises:
        KeyboardInterrupt: SIGTERM or SIGINT; nothing is left behind.
        Problem: the base is gone or another, no room, or what was written does not say what the run's result says (code `differs`).
    """
    found = run_of(ledger, job)
    if found.result is None:
        raise Problem(f"{found.name} has no result to export", code="run")
    out = Path(json.loads(job.argument)["out"])
    resolved = profile_of(ledger, found)
    jobs.set_state(ledger, job, State.RUNNING)
    torch.set_num_threads(process.threads())
    with stopping("Stopped at once.") as stop:
        tell = _Telling(ledger, job, stop)
        tell("comparing fingerprints")
        _see_unchanged(ledger, found, resolved)
        _see_room(out, _source(found, resolved))
        whole = found.result_kind == "model"
        checks = _copy(found.result, out, tell) if whole else _Merging(found, found.result, resolved, tell).into(out)
        told = " ".join(check.told for check in checks)
        known = folders.published_fingerprint(out)
        artifacts.add(ledger, found, "export", out, size=folders.published_bytes(out), fingerprint=known)
        detail = {"path": str(out), "checks": [asdict(check) for check in checks]}
        events.add(ledger, "export", f"Exported to {out}. {told}", run=found.id, job=job.id, detail=detail)


class _Telling:
    """Beats with what is done, and ends the job where it was asked to stop."""

    def __init__(self, ledger: Ledger, job: Job, stop: threading.Event) -> None:
        self._ledger, self._job, self._stop = ledger, job, stop

    def __call__(self, doing: str, done: int | None = None, total: int | None = None) -> None:
        jobs.beat(self._ledger, self._job, doing=doing, done=done, total=total)
        if self._stop.is_set():
            raise KeyboardInterrupt(STOPPED)

    def counting(self, doing: str, total: int) -> Callable[[], None]:
        """A function that counts one more at each call."""
        self(doing, 0, total)
        done = 0

        def one_more() -> None:
            nonlocal done
            done += 1
            self(doing, done, total)

        return one_more


def _see_unchanged(ledger: Ledger, found: Run, resolved: Profile) -> None:
    """Base and result have to be those of the run.

    Raises:
        Problem: one has changed (code `changed`), or the base is not there.
    """
    known = runs.document(ledger, found).fingerprints
    assert found.result is not None
    if known.get("result") not in (None, folders.fingerprint(found.result)):
        raise Problem(
            f"The result of {found.name} has changed since the training",
            f"The files at {found.result} have another fingerprint.",
            "Put the files back, or resume the run to write them again.",
            code="changed",
        )
    if found.result_kind == "model":
        return
    if known.get("base") not in (None, fingerprints.of_base(fetch(resolved.model))):
        raise Problem(
            f"The base model {resolved.model.base} has changed since {found.name} was trained",
            "Its files have another fingerprint: what was learned on one base means nothing on another.",
            "Put the files back, then export again.",
            code="changed",
        )


def _source(found: Run, resolved: Profile) -> Path:
    """The folder whose weights say how large the export will be."""
    assert found.result is not None
    return found.result if found.result_kind == "model" else fetch(resolved.model)


def _see_room(out: Path, source: Path) -> None:
    needed = SPARE * sum(path.stat().st_size for path in source.glob("*.safetensors"))
    free = free_bytes(out)
    if needed > free:
        raise Problem(
            f"The export needs {needed / GB:.2f} GB, {free / GB:.2f} GB are free",
            f"It goes to {out}.",
            "Free some space, or name another folder with --out.",
            code="disk",
        )


def _copy(result: Path, out: Path, tell: _Telling) -> list[Check]:
    """A run that trained all weights has left a whole model: the same bytes in another place."""
    tell("copying the model")
    files = json.loads((result / folders.MANIFEST).read_text())["files"]

    def write(place: Path) -> None:
        each = tell.counting("copying the model", len(files))
        for name in files:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(result / name, place / name)
            each()

    folders.publish(out, write)
    different = sum(
        folders.sha256(out / name) != expected["sha256"] or (out / name).stat().st_size != expected["bytes"]
        for name, expected in files.items()
    )
    if different:
        shutil.rmtree(out)
        raise Problem(
            f"{different} files of the copy differ from the run's", "The disk may be failing.", code="differs"
        )
    return [Check("files", True, different, 0, f"All {len(files)} files are those of the run's result.")]


@dataclass(frozen=True)
class _Merging:
    """A merge of one run's adapter."""

    run: Run
    adapter: Path
    resolved: Profile
    tell: _Telling

    def into(self, out: Path) -> list[Check]:
        """Merge, write beside `out`, read back, compare; `out` comes to be only where all checks pass.

        Raises:
            Problem: one does not; by how much.
        """
        tokens = prepare.load(self.run.folder)
        prompts = prompts_of(tokens)
        end_ids = load_tokenizer(self.resolved.model.base, self.resolved.model.revision).eos_ids
        source = fetch(self.resolved.model)
        self.tell("loading the base model")
        base = merge.load_own(source, name=self.resolved.model.base, remote_code=self.resolved.model.trust_remote_code)
        kept, dtype = merge.types(base), base.dtype
        tuned = put_on(base, self.adapter, self.resolved.model.base)
        tuned.train(False)
        answers = self._ask("asking the adapter", tuned, prompts, None, end_ids)
        with tuned.disable_adapter():
            alone = self._ask("asking the base", tuned, prompts, answers, end_ids)
        modules = sum(isinstance(module, BaseTunerLayer) for module in tuned.modules())
        model = merge.merged(tuned, kept, self.tell.counting("merging", modules))
        checks: list[Check] = []

        def write(place: Path) -> None:
            nonlocal model
            self.tell("writing the model")
            model.save_pretrained(place)
            for pattern in TOKENIZER_FILES:
                for path in source.glob(pattern):
                    shutil.copyfile(path, place / path.name)
            del model
            gc.collect()
            self.tell("reading the model back")
            read = merge.load_own(place, name="What was merged", remote_code=False)
            said = self._ask("asking the merged model", read, prompts, answers, end_ids)
            checks.extend(verify.compare(alone, answers, said, dtype))
            _see_the_same(checks)

        folders.publish(out, write)
        return checks

    def _ask(
        self,
        doing: str,
        model: PreTrainedModel | PeftModel,
        prompts: list[tuple[int, ...]],
        answers: list[Said] | None,
        end_ids: tuple[int, ...],
    ) -> list[Said]:
        along = [said.answer for said in answers] if answers else None
        return verify.ask(model, prompts, along, end_ids, self.tell.counting(doing, len(prompts)))


def prompts_of(prepared: prepare.Prepared) -> list[tuple[int, ...]]:
    """Up to ten prompts of the run: of rows that it validated on, then of those it trained on; of text without one its first half."""
    found: dict[tuple[int, ...], None] = {}
    for tokens in (prepared.validation, prepared.train):
        for row in range(len(tokens)):
            inside = slice(int(tokens.starts[row]), int(tokens.starts[row + 1]))
            ids, counted = tokens.ids[inside].tolist(), tokens.supervised[inside]
            first = int(counted.argmax()) if counted.any() else 0
            found.setdefault(tuple(ids[: first or max(1, len(ids) // 2)]))
            if len(found) == verify.PROMPTS:
                return list(found)
    return list(found)


def _see_the_same(checks: list[Check]) -> None:
    failed = [check for check in checks if not check.ok]
    if failed:
        raise Problem(
            "The merged model does not say what the adapter says; it was not kept",
            " ".join(check.told for check in failed),
            "Use the adapter as it is (it loads with PeftModel.from_pretrained), or train longer: what is learned must not be smaller "
            "than the rounding of the base's weights.",
            code="differs",
        )
