"""A ledger of any number of runs as years of work leave them: sweeps, tags, several bases, failures, values that are not finite.

`python -m tests.benchmarks.many_runs FILE --runs 10000` makes one to look at. Rows are written as the engine leaves them once a run
has ended, many in one transaction; only the newest run has points besides its summaries.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.ledger import Ledger, metrics
from engine.profile import Profile, flat
from engine.profile_file import dump

BASES: Final = (
    "Qwen/Qwen3-4B-Instruct-2507",
    "meta-llama/Llama-3.1-8B-Instruct",
    "google/gemma-3-4b-it",
    "mistralai/Mistral-7B-v0.3",
)
DATA: Final = (("pubmedqa", "medical"), ("speech", "speech"), ("healthcare", "medical"), ("support", ""))
SWEPT: Final[dict[str, tuple[object, ...]]] = {
    "method.rank": (4, 8, 16, 32, 64, 128),
    "training.learning_rate": (5e-5, 1e-4, 2e-4, 4e-4, 8e-4),
    "training.epochs": (1.0, 2.0, 3.0),
    "method.dropout": (0.0, 0.05, 0.1),
    "training.effective_batch": (8, 16, 32, 64),
    "method.alpha": (16.0, 32.0, 64.0),
}
CAUSES: Final = ("OOM at 12", "gated", "disk", "not finite", "")
GPUS: Final = ("RTX 4090", "H200", "2x RTX 4090", "cpu")
DAY: Final = 86_400.0
POINTS: Final = 300  # of the newest run


@dataclass(frozen=True)
class Made:
    """One run to be written."""

    name: str
    settings: dict[str, object]
    state: str
    cause: str
    sweep: str
    tags: tuple[str, ...]
    data: int
    created: float


def fill(ledger: Ledger, folder: Path, count: int, *, now: float | None = None, seed: int = 7) -> None:
    """`count` runs that have ended, the newest days before `now` (seconds since the epoch), so that no age changes while one looks."""
    draw = random.Random(seed)
    newest = (time.time() if now is None else now) - 3 * DAY
    profiles = [_profile(base) for base in BASES]
    texts, settings = [dump(profile) for profile in profiles], [flat(profile) for profile in profiles]
    with ledger.transaction() as connection:
        keys = _keys(connection)
        for number, made in enumerate(_runs(draw, count, newest, settings)):
            _write(connection, draw, keys, made, number, folder, texts[BASES.index(str(made.settings["model.base"]))])
        last = connection.execute("SELECT max(id) FROM run").fetchone()[0]
    if last is not None:
        with metrics.Writer(ledger, last) as log:
            for step in range(1, POINTS + 1):
                loss = 0.9 + 0.6 * math.exp(-step / 60) + 0.02 * math.sin(step)
                log.log(step, {"train/loss": loss})
                if step % 20 == 0:
                    log.log(step, {"validation/loss": loss + 0.05})


def _profile(base: str) -> Profile:
    source = {"source": "rows.jsonl", "columns": {"instruction": "instruction", "response": "output"}}
    return Profile.model_validate({"model": {"base": base}, "data": [source]})


def _runs(draw: random.Random, count: int, newest: float, settings: list[dict[str, object]]) -> Iterator[Made]:
    """Sweeps of a dozen over one or two settings, and single runs between them; the oldest first."""
    made, sweep = 0, 0
    while made < count:
        base, data = draw.randrange(len(BASES)), draw.randrange(len(DATA))
        varied = draw.sample(sorted(SWEPT), 2)
        size = min(count - made, 12 if draw.random() < 0.5 else 1)
        sweep += size > 1
        for each in range(size):
            chosen = {key: draw.choice(SWEPT[key]) for key in varied}
            chosen["training.seed"] = draw.randrange(10**6)  # so that no two runs have the same settings
            state = draw.choices(("finished", "failed", "stopped"), (82, 12, 6))[0]
            tags = {DATA[data][1], "draft" if draw.random() < 0.2 else "", "paper" if draw.random() < 0.05 else ""}
            yield Made(
                f"{DATA[data][0]}-{varied[0].rpartition('.')[2]}-{made}",
                settings[base] | chosen | {"data.0.source": f"{DATA[data][0]}.jsonl"},
                state,
                draw.choice(CAUSES) if state == "failed" else "",
                f"{varied[0].rpartition('.')[2]} {sweep}" if size > 1 else "",
                tuple(sorted(tags - {""})),
                data,
                newest - (count - made) * 3600.0 + each,
            )
            made += 1


def _keys(connection: sqlite3.Connection) -> dict[str, int]:
    names = ("train/loss", "validation/loss", "train/grad_norm", "train/tokens_per_second", "validation/accuracy")
    connection.executemany("INSERT OR IGNORE INTO key (name) VALUES (?)", [(name,) for name in names])
    return dict(connection.execute("SELECT name, id FROM key").fetchall())


def _write(
    connection: sqlite3.Connection,
    draw: random.Random,
    keys: dict[str, int],
    made: Made,
    number: int,
    folder: Path,
    profile: str,
) -> None:
    uid = f"{number:012x}"
    steps = draw.choice((84, 600, 4100))
    step = steps if made.state == "finished" else draw.randrange(steps)
    run = connection.execute(
        "INSERT INTO run (uid, name, created, folder, state, cause, step, steps, sweep, gpu, comparable, predicted_mib, measured_mib)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(uid, made.name, made.created, str(folder / uid), made.state, made.cause, step, steps, made.sweep),
            *(draw.choice(GPUS), f"rows-{made.data}", 9300.0, 9000.0 + draw.random() * 600),
        ),
    ).lastrowid
    connection.execute(
        "INSERT INTO run_document (run, profile, settings) VALUES (?, ?, ?)",
        (run, profile, json.dumps(dict(sorted(made.settings.items())))),
    )
    connection.executemany("INSERT INTO tag (run, name) VALUES (?, ?)", [(run, tag) for tag in made.tags])
    connection.execute(
        "INSERT INTO job (uid, kind, run, argument, state, cause, created, started, ended, log) VALUES (?, 'train', ?, '{}', ?, ?, ?, ?, ?, ?)",
        (f"j{uid}", run, made.state, made.cause, made.created, made.created, made.created + 1800, "log.txt"),
    )
    if not step:
        return
    loss = 0.7 + 0.6 * draw.random()
    last = None if made.cause == "not finite" else loss + 0.1 * draw.random()  # NULL where the last is a gap
    values = {
        "train/loss": (last, loss - 0.1, loss + 1),
        "validation/loss": (last, loss, loss + 0.8),
        "train/grad_norm": (1.1, 0.8, 9.0),
        "train/tokens_per_second": (4100.0, 900.0, 4200.0),
        "validation/accuracy": (0.5 + loss / 10, 0.2, 0.6 + loss / 10),
    }
    connection.executemany(
        "INSERT INTO series (run, key, n, gaps, last, last_step, min, min_step, max, max_step, smoothed)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (run, keys[name], step, int(now is None), now, step, low, step, high, 1, now)
            for name, (now, low, high) in values.items()
        ],
    )


def main() -> None:
    """Make a ledger."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--runs", type=int, default=10_000)
    options = parser.parse_args()
    with Ledger.open(options.file) as ledger:
        fill(ledger, options.file.parent / "runs", options.runs)


if __name__ == "__main__":
    main()
