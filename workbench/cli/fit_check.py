"""`workbench fit --check RUN`: what is predicted of a run's memory now, against what was measured when it trained."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from engine.fit.check import SMALL, WITHIN, Check, Row, check
from engine.fit.simulator import Simulator
from engine.ledger import runs
from workbench.cli.existing import existing_ledger
from workbench.cli.output import Cell, print_json, print_table, words


def run(options: argparse.Namespace) -> int:
    """Print the comparison; 1 when a figure is off by more than it should be."""
    ledger = existing_ledger(options.ledger)
    simulator = Simulator()
    try:
        found = check(ledger, runs.find(ledger, options.check), simulator)
    finally:
        simulator.close()
    if options.json:
        print_json(as_json(found))
    else:
        _print(found)
        for note in found.notes:
            words(f"Note: {note}.")
        words(_verdict(found))
    return 0 if found.holds else 1


def as_json(found: Check) -> dict[str, object]:
    """The keys that scripts rely on."""
    return {
        "run": {"uid": found.run.uid, "name": found.run.name},
        "gpu": found.gpu,
        "source": found.source,
        "step": asdict(found.step),
        "holds": found.holds,
        "figures": {row.figure: _row_json(row) for row in found.rows},
        "phases": {
            phase: {"allocated": _row_json(allocated), "reserved": _row_json(reserved)}
            for phase, (allocated, reserved) in found.phases.items()
        },
        "notes": found.notes,
    }


def _row_json(row: Row) -> dict[str, object]:
    return {
        "predicted_then_mib": row.then,
        "predicted_mib": row.now,
        "measured_mib": row.measured,
        "error_pct": None if row.error is None else 100 * row.error,
        "holds": row.holds,
    }


def _print(found: Check) -> None:
    titles = ("MiB", "at launch", "predicted", "measured", "error")
    print_table(titles, [(row.figure, *_cells(row)) for row in found.rows], right=titles[1:])
    for name, place in (("allocated", 0), ("reserved", 1)):
        rows = [(phase, *_cells(pair[place])) for phase, pair in found.phases.items()]
        if rows:
            print()
            print_table((f"{name}, MiB", *titles[1:]), rows, right=titles[1:])


def _cells(row: Row) -> tuple[Cell, ...]:
    error = None if row.error is None else f"{row.error:+.1%}"
    return (*(None if value is None else f"{value:,.0f}" for value in (row.then, row.now, row.measured)), error)


def _verdict(found: Check) -> str:
    step = found.step
    about = f"{step.rows} x {step.tokens:,} tokens on {found.gpu}, {found.source}"
    off = [f"{row.figure} by {row.error:+.1%}" for row in found.rows if row.error is not None and not row.holds]
    if off:
        return f"Off: {', '.join(off)} ({about})."
    if any(row.least for row in found.rows):
        return f"At least what was predicted was taken, as on a CPU is all that can be said ({about})."
    return f"Within {WITHIN:.0%} or {SMALL:.0f} MiB ({about})."
