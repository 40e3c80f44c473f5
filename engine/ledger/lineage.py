"""Where a run comes from and what came of it: data, base model, the runs that it goes on from, the run, the runs that go on from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from engine.ledger import runs
from engine.ledger.runs import Run
from engine.ledger.states import State
from engine.ledger.store import Ledger

Kind = Literal["data", "base", "parent", "run", "child"]


@dataclass(frozen=True)
class Relative:
    """One of a family. For a run `uid` is set and `state`, where it is still in the ledger; `binned` says that it is in the bin.

    `fingerprint` is of data and base, empty where it is not known. `depth` counts generations from the run: -1 is its parent, 2 a
    child's child.
    """

    kind: Kind
    name: str
    uid: str | None = None
    state: State | None = None
    binned: bool = False
    fingerprint: str = ""
    depth: int = 0


def family(ledger: Ledger, run: Run) -> list[Relative]:
    """The run's family from its data and its base model down to the youngest that go on from it."""
    prints = runs.document(ledger, run).fingerprints
    settings = runs.settings(ledger, run)
    above = list(_above(ledger, run, {run.uid}))
    base, base_print = str(settings.get("model.base", "")), prints.get("base", "")
    if above and isinstance(
        above[0].get("base"), str
    ):  # where another's whole model is the base, the chain began with that run's
        base, base_print = str(above[0]["base"]), str(above[0].get("base_fingerprint") or "")
    sources = [str(value) for key, value in settings.items() if key.startswith("data.") and key.endswith(".source")]
    found = [Relative("data", source, fingerprint=prints.get("data", "")) for source in sources]
    found += [Relative("base", base, fingerprint=base_print)] if base else []
    for depth, one in enumerate(above, start=-len(above)):
        found.append(_known(ledger, str(one["uid"]), str(one["name"]), depth))
    found.append(Relative("run", run.name, run.uid, run.state))
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
        known = runs.settings(ledger, parent) if parent else {}
        yield {"uid": run.parent, "name": parent.name if parent else run.parent, "base": known.get("model.base")}


def _known(ledger: Ledger, uid: str, name: str, depth: int) -> Relative:
    run = runs.by_uid(ledger, uid)
    if run is None:
        return Relative("parent", name, uid, depth=depth)
    return Relative("parent", run.name, uid, run.state, run.deleted is not None, depth=depth)


def _below(ledger: Ledger, run: Run, depth: int, seen: set[str]) -> Iterator[Relative]:
    for child in runs.children(ledger, run):
        if child.uid not in seen:
            seen.add(child.uid)
            yield Relative("child", child.name, child.uid, child.state, depth=depth)
            yield from _below(ledger, child, depth + 1, seen)
