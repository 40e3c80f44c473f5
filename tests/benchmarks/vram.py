"""How far simulated memory is from what others measured: `python -m tests.benchmarks.vram FILE [--json]`.

FILE is a list of rows as fitcheck-llm archives them. Of each row `run`, `model_id`, `model_config` and `measured.cuda_context_mib` are used, and
nothing is fitted: the step that the row's program made is simulated (`vram_program`), replayed through the allocator, and held against the
measured peaks, beside what fitcheck-llm and accelerate's estimate-memory say of the same row. Sizes are in MiB.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any, Final

Row = Mapping[str, Any]
Figures = dict[str, Any]
MIB: Final = 1 << 20
KINDS: Final = ("allocated", "reserved", "process")
MEASURED: Final = {"allocated": "peak_allocated_mib", "reserved": "peak_reserved_mib", "process": "process_mib"}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, or everything as JSON. 0, or 2 for a file that cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.vram", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--no-peers", action="store_true", help="leave out what others predict")
    asked = parser.parse_args(argv)
    try:
        rows = _rows(asked.file)
    except (OSError, ValueError) as error:
        print(f"{asked.file} cannot be used: {error}", file=sys.stderr)
        return 2
    found = compared(rows, jobs=asked.jobs, peers=not asked.no_peers)
    print(json.dumps(found, indent=1) if asked.json else _table(found))
    return 0


def compared(rows: Sequence[Row], *, jobs: int, peers: bool) -> Figures:
    """Predictions and errors of each row, and their sums: of ours, and of others by name."""
    figures = [_figures(row, answer) for row, answer in zip(rows, _simulated(rows, jobs), strict=True)]
    found: Figures = {"rows": figures, "sum": _sum(figures)}
    if peers:
        from tests.benchmarks import vram_peers

        found["peers"] = {}
        for name, peer in vram_peers.predicted(rows).items():
            theirs = [_errors(row, predicted) for row, predicted in zip(rows, peer.rows, strict=True)]
            for ours, errors in zip(figures, theirs, strict=True):
                ours[name] = errors
            found["peers"][name] = {"left_out": peer.left_out, **_sum(theirs)}
    return found


def simulated(row: Row) -> Figures:
    """Peaks of a row's program in MiB, and the family that its model was taken for."""
    import torch

    from engine.fit.allocator import replay
    from tests.benchmarks.vram_families import family
    from tests.benchmarks.vram_program import stream

    torch.set_num_threads(1)
    model = family(row["model_id"], row["model_config"])
    peaks = replay(stream(model.config, row["run"]))
    return {
        "family": model.name,
        "family_exact": model.exact,
        "allocated": peaks.allocated / MIB,
        "reserved": peaks.reserved / MIB,
    }


def _simulated(rows: Sequence[Row], jobs: int) -> list[Figures]:
    """Of each row; those that asked for the same are simulated once."""
    distinct = {_key(row): row for row in rows}
    with ProcessPoolExecutor(max(1, min(jobs, len(distinct))), mp_context=get_context("spawn")) as pool:
        answers = dict(zip(distinct, pool.map(simulated, distinct.values()), strict=True))
    return [answers[_key(row)] for row in rows]


def _key(row: Row) -> str:
    return json.dumps([row["model_id"], row["model_config"], row["run"]], sort_keys=True)


def _figures(row: Row, answer: Figures) -> Figures:
    predicted = {"allocated": answer["allocated"], "reserved": answer["reserved"]}
    context = row["measured"].get("cuda_context_mib")
    if context is not None:
        predicted["process"] = answer["reserved"] + context
    named = {"model_id": row["model_id"], "family": answer["family"], "family_exact": answer["family_exact"]}
    return {**named, "run": dict(row["run"]), **_errors(row, predicted)}


def _errors(row: Row, predicted: Mapping[str, float | None]) -> Figures:
    """What is predicted and, where it was measured, by how many percent it is off."""
    figures: Figures = {}
    for kind in KINDS:
        value, measured = predicted.get(kind), row["measured"].get(MEASURED[kind])
        figures[f"{kind}_mib"] = value
        figures[f"{kind}_error_pct"] = 100 * (value / measured - 1) if value is not None and measured else None
    return figures


def _sum(rows: Sequence[Figures]) -> Figures:
    """Mean and worst of the errors' sizes."""
    found: Figures = {"rows": len(rows)}
    for kind in KINDS:
        errors = [abs(row[f"{kind}_error_pct"]) for row in rows if row[f"{kind}_error_pct"] is not None]
        found[f"{kind}_mean_pct"] = fmean(errors) if errors else None
        found[f"{kind}_worst_pct"] = max(errors, default=None)
    return found


def _rows(file: Path) -> list[Row]:
    """
    Raises:
        OSError: it cannot be read.
        ValueError: it is not a list of rows.
    """
    rows = json.loads(file.read_text())
    if not isinstance(rows, list) or not rows:
        raise ValueError("it is not a list of rows")
    for number, row in enumerate(rows):
        lacking = {"model_id", "model_config", "run", "measured"} - set(row if isinstance(row, dict) else ())
        if lacking:
            raise ValueError(f"row {number} has no {', '.join(sorted(lacking))}")
    return rows


def _table(found: Figures) -> str:
    lines = [f"{'model':28} {'family':8} {'step':30} {'allocated':>18} {'reserved':>18} {'process':>18}"]
    for row in found["rows"]:
        run = row["run"]
        step = f"{run['attn_impl']} {run['quantization']} {run['precision']} {run['batch_size']} x {run['seq_len']}"
        family = row["family"] + ("" if row["family_exact"] else "?")
        cells = " ".join(_cell(row, kind) for kind in KINDS)
        lines.append(f"{row['model_id'].rpartition('/')[2][:28]:28} {family:8} {step:30} {cells}")
    lines.append("")
    lines.append(f"{'error, mean (worst)':44} {'allocated':>18} {'reserved':>18} {'process':>18}")
    peers = found.get("peers", {})
    for name, errors in {"simulated here": found["sum"], **peers}.items():
        told = " ".join(_mean(errors, kind) for kind in KINDS)
        lines.append(f"{name:44} {errors.get('left_out') or told}")
    return "\n".join(lines)


def _cell(row: Figures, kind: str) -> str:
    value, error = row[f"{kind}_mib"], row[f"{kind}_error_pct"]
    shown = "-" if value is None else f"{value:,.0f}" + ("" if error is None else f" {error:+6.2f} %")
    return f"{shown:>18}"


def _mean(errors: Figures, kind: str) -> str:
    mean, worst = errors[f"{kind}_mean_pct"], errors[f"{kind}_worst_pct"]
    return f"{'-' if mean is None else f'{mean:.2f} % ({worst:.2f} %)':>18}"


if __name__ == "__main__":
    sys.exit(main())
