"""Runs that go on from other runs: pretraining, then fine-tuning, then preferences, each from what the one before left.

`model.base = "run:NAME"` names the parent. An adapter goes on with its base and its shape; a whole model is itself the next run's base. What
stands in the ledger of where a run comes from outlives the runs it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from engine.assignment import profile_of
from engine.errors import Problem
from engine.ledger import Ledger, runs
from engine.ledger.runs import Run
from engine.ledger.states import LIVE, State
from engine.profile import Method, Model, Profile, changed

SHAPE: Final = {
    "lora": ("rank", "alpha", "targets", "dora", "rslora", "bias", "modules_to_save"),
    "ia3": ("targets", "modules_to_save"),
    "prefix": ("virtual_tokens", "modules_to_save"),
    "prompt_tuning": ("virtual_tokens", "modules_to_save"),
}
BASE: Final = ("base", "revision", "quantization", "double_quantization")


def grounded(profile: Profile, ledger: Ledger | None, notes: list[str]) -> tuple[Profile, str | None]:
    """The profile with a folder or a hub id as its base, and for `model.base = "run:NAME"` that run's uid.

    Raises:
        Problem: there is no such run, it still trains or has no result, or its adapter cannot be gone on from in this way (code `run`).
    """
    name = profile.model.base.removeprefix("run:")
    if name == profile.model.base:
        return profile, None
    if ledger is None:
        raise Problem(f"model.base = run:{name} needs a ledger to find the run in", code="run")
    run = runs.find(ledger, name)
    if run.state in LIVE:
        raise Problem(
            f"{run.name} is {run.state}",
            "Its result still changes.",
            f"Wait until it has finished, or stop it: workbench runs stop {run.name}",
            code="run",
        )
    result = result_of(run)
    if run.state is not State.FINISHED:
        notes.append(f"{run.name} is {run.state} at step {run.step}: what it has left so far is gone on from")
    if run.result_kind == "model":
        return changed(profile, {"model.base": str(result), "model.revision": "main"}), run.uid
    return _onto_adapter(profile, profile_of(ledger, run), run.name, notes), run.uid


def result_of(run: Run) -> Path:
    """The folder with what a run left.

    Raises:
        Problem: there is nothing (code `run`).
    """
    if run.result is None:
        raise Problem(
            f"{run.name} has no result to go on from",
            f"It is {run.state}, and nothing stands in {run.folder}.",
            "Resume it, or choose a run that has finished.",
            code="run",
        )
    if not run.result.is_dir():
        raise Problem(
            f"{run.name} has no result to go on from any more",
            f"It left one at {run.result}, which is not there.",
            "Mount the disk it was on, fetch it (workbench pull BOX --results RUN), or choose another run.",
            code="run",
        )
    return run.result


def parent_of(ledger: Ledger, run: Run) -> Run:
    """The run that this one goes on from.

    Raises:
        Problem: it was deleted (code `run`).
    """
    assert run.parent is not None
    parent = runs.by_uid(ledger, run.parent)
    if parent is not None and parent.deleted is None:
        return parent
    what, anew = f"The run that {run.name} goes on from was deleted", "Start the profile anew with another model.base."
    if parent is None:
        raise Problem(what, f"There is no run {run.parent} in the ledger.", anew, code="run")
    raise Problem(
        what, f"{parent.name} is in the bin.", f"Get it back: workbench runs restore {parent.uid}", code="run"
    )


def recorded(ledger: Ledger, parent: Run) -> list[dict[str, object]]:
    """What a run keeps of the runs that it comes from, the first one first: name, uid, objective, method and base of each."""
    profile, document = profile_of(ledger, parent), runs.document(ledger, parent)
    before = document.environment.get("lineage")
    own: dict[str, object] = {
        "name": parent.name,
        "uid": parent.uid,
        "objective": profile.training.objective,
        "method": profile.method.name,
        "result": parent.result_kind,
        "base": profile.model.base,
        "revision": profile.model.revision,
        "base_fingerprint": document.fingerprints.get("base"),
    }
    return [*(before if isinstance(before, list) else []), own]


def origin(profile: Profile, environment: Mapping[str, object]) -> tuple[Model, str | None]:
    """The model that a run's whole chain began with, which its evaluations are held against, and the fingerprint known of it.

    That is the profile's own base but where another run's whole model is the base; then it is loaded as that run loaded it, in this run's type.
    """
    first = next(iter(_lineage(environment)), None)
    if first is None or str(first["base"]) == profile.model.base:
        return profile.model, None
    base = {"base": str(first["base"]), "revision": str(first["revision"])}
    fingerprint = first.get("base_fingerprint")
    return profile.model.model_copy(update=base), fingerprint if isinstance(fingerprint, str) else None


def _lineage(environment: Mapping[str, object]) -> Sequence[Mapping[str, object]]:
    found = environment.get("lineage")
    return found if isinstance(found, list) else []


def _onto_adapter(profile: Profile, before: Profile, name: str, notes: list[str]) -> Profile:
    """An adapter goes on only on its own base, quantised as it was, and with its own shape."""
    _check_method(profile.method, before.method, name)
    shape = {f"method.{key}": getattr(before.method, key) for key in SHAPE[profile.method.name]}
    onto = changed(profile, shape | {f"model.{key}": getattr(before.model, key) for key in BASE})
    kept = [
        f"{key.replace('_', ' ')} {_words(getattr(onto.method, key))}"
        for key in SHAPE[profile.method.name]
        if getattr(onto.method, key) != getattr(profile.method, key)
    ]
    if kept:
        notes.append(f"the adapter keeps the shape that it has in {name}: {', '.join(kept)}")
    if onto.model.quantization != profile.model.quantization:
        stays = "unquantised" if onto.model.quantization == "none" else onto.model.quantization
        notes.append(f"the base is {stays}, as it was when the adapter of {name} was trained on it")
    return onto


def _check_method(wanted: Method, before: Method, name: str) -> None:
    # The result of p_tuning is its virtual tokens; the network that made them is not part of it. They are what prompt tuning trains.
    possible = "prompt_tuning" if before.name == "p_tuning" else before.name
    if wanted.name == possible:
        return
    why = "An adapter goes on as what it is."
    do = f"Set method.name = {possible}."
    if wanted.name == "full":
        why = "All weights can be trained only from a whole model."
        do += f" Or merge it first: workbench export {name} --format merged, and name that folder as model.base."
    elif wanted.name == before.name == "p_tuning":
        why = "It left virtual tokens, without the network that made them."
    raise Problem(
        f"{name} left an adapter of {before.name}, which method.name = {wanted.name} cannot go on from",
        why,
        do,
        code="run",
    )


def _words(value: object) -> str:
    return " ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value).lower()
