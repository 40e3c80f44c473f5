"""Where a run comes from and what came of it: data, base model, the runs that it goes on from, the run, the runs that go on from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from engine.ledger import runs
from engine.ledger.runs import Run
from engine.ledger.store import Ledger


@dataclass(frozen=True)
class Relative:
    """One of a family; `what` is a run's objective and method, of data and base the beginning of a fingerprint.

    `run` is None where it is none, was removed for good, or is `binned`. `depth` counts generations: -1 is a parent, 2 a child's child.
    """

    relation: Literal["data", "base", "parent", "run", "child"]
    name: str
    what: str
    run: Run | None = None
    binned: bool = False
    depth: int = 0


def of_run(ledger: Ledger, run: Run) -> list[Relative]:
    """Data, the model that the whole chain began with, the runs in between, the run itself, and those that go on from it, to the youngest."""
    settings, prints = runs.settings(ledger, run), runs.document(ledger, run).fingerprints
    above = list(_above(ledger, run, {run.uid}))
    # Where a run's base is another's whole model, the chain began with that run's own.
    own: Mapping[str, object] = {"base": settings.get("model.base"), "base_fingerprint": prints.get("base")}
    first = above[0] if above and above[0].get("base") else own
    sources = [str(value) for key, value in settings.items() if key.startswith("data.") and key.endswith(".source")]
    found = [Relative("data", source, _short(prints.get("data"))) for source in sources]
    if first["base"]:
        found.append(Relative("base", str(first["base"]), _short(first.get("base_fingerprint"))))
    found += [_parent(ledger, one, depth) for depth, one in enumerate(above, start=-len(above))]
    found.append(Relative("run", run.name, _did(_known(ledger, run)), run))
    return [*found, *_below(ledger, run, 1, {run.uid})]


def _above(ledger: Ledger, run: Run, seen: set[str]) -> Iterator[Mapping[str, object]]:
    """What is known of the runs that a run goes on from, the first one first. What it recorded as it began outlives them."""
    recorded = runs.document(ledger, run).environment.get("lineage")
    if isinstance(recorded, list) and recorded:
        yield from recorded
    elif run.parent is not None and run.parent not in seen:
        parent = runs.by_uid(ledger, run.parent)
        if parent is not None:
            yield from _above(ledger, parent, seen | {parent.uid})
        yield _known(ledger, parent) if parent else {"uid": run.parent, "name": run.parent}


def _known(ledger: Ledger, run: Run) -> Mapping[str, object]:
    """What a run would have recorded of this one."""
    settings = runs.settings(ledger, run)
    return {
        "uid": run.uid,
        "name": run.name,
        "objective": settings.get("training.objective"),
        "method": settings.get("method.name"),
        "base": settings.get("model.base"),
        "base_fingerprint": runs.document(ledger, run).fingerprints.get("base"),
    }


def _parent(ledger: Ledger, one: Mapping[str, object], depth: int) -> Relative:
    run = runs.by_uid(ledger, str(one.get("uid")))
    binned = run is not None and run.deleted is not None
    name = run.name if run else str(one.get("name"))
    return Relative("parent", name, _did(one), None if binned else run, binned, depth)


def _below(ledger: Ledger, run: Run, depth: int, seen: set[str]) -> Iterator[Relative]:
    for child in runs.children(ledger, run):
        if child.uid not in seen:
            seen.add(child.uid)
            yield Relative("child", child.name, _did(_known(ledger, child)), child, depth=depth)
            yield from _below(ledger, child, depth + 1, seen)


def _did(one: Mapping[str, object]) -> str:
    return ", ".join(str(one[key]) for key in ("objective", "method") if one.get(key))


def _short(fingerprint: object) -> str:
    return fingerprint[:12] if isinstance(fingerprint, str) else ""
