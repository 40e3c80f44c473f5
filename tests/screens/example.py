"""A ledger with runs in all states at fixed times, for pictures and for driving the screens."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from engine.gpu import Gpu
from engine.ledger import Ledger, checkpoints, events, jobs, runs
from engine.ledger.packing import Packer, Row
from engine.ledger.runs import Run
from engine.ledger.states import State
from screens.session import Room, Session

NOW: Final = 1_773_320_700.0  # Thu 12 March 2026, 13:05 UTC
MINUTE: Final = 60.0
GPUS: Final = (
    Gpu(
        uuid="GPU-a",
        index=0,
        name="RTX 4090",
        total_mib=24564.0,
        used_mib=9830.0,
        free_mib=14734.0,
        mine_mib=9420.0,
        others_mib=410.0,
        watts=402.0,
        celsius=73,
        busy_percent=97,
    ),
    Gpu(
        uuid="GPU-b",
        index=1,
        name="H200",
        total_mib=143771.0,
        used_mib=134144.0,
        free_mib=9627.0,
        mine_mib=0.0,
        others_mib=134144.0,
        watts=610.0,
        celsius=61,
        busy_percent=100,
    ),
)
ROOM: Final = Room(disk_free=412_000_000_000, ram_used=9 * 2**30, ram_total=62 * 2**30)
BASE: Final = "Qwen/Qwen3-4B-Instruct-2507"


def settings(**changed: object) -> dict[str, object]:
    """What a resolved profile comes to, flattened; double underscores stand for dots."""
    plain: dict[str, object] = {
        "model.base": BASE,
        "model.quantization": "nf4",
        "data.0.source": "ori_pqal.json",
        "method.name": "lora",
        "method.rank": 16,
        "method.alpha": 32,
        "method.dora": False,
        "method.targets": "all-linear",
        "training.learning_rate": 2e-4,
        "training.epochs": 3.0,
        "training.early_stopping.patience": 3,
        "training.loss_on": "responses",
    }
    return plain | {key.replace("__", "."): value for key, value in changed.items()}


@dataclass(frozen=True)
class Example:
    """The ledger's session, with the clock at `NOW`, and its runs by name."""

    session: Session
    runs: Mapping[str, Run]


def example(ledger: Ledger, folder: Path) -> Example:
    """Four runs: running (in this process), finished, lost and failed, on a machine with a GPU of mine and one of another's."""
    made = {}
    made["healthcare-full"] = failed = add(
        ledger, folder, "healthcare-full", 26 * 60, settings(method__name="full", model__quantization="none")
    )
    finish(
        ledger,
        failed,
        State.FAILED,
        cause="OOM at 12",
        message="GPU 0 has no memory left\nStep 12 needed 3.1 GiB more.",
    )
    made["speech-dora"] = lost = add(
        ledger,
        folder,
        "speech-dora",
        25 * 60,
        settings(data__0__source="speech.jsonl", method__dora=True, method__rank=8),
    )
    curves(ledger, lost, steps=88, of=600, floor=1.15)
    vanish(ledger, lost)
    made["pubmedqa-lora-64"] = done = add(
        ledger, folder, "pubmedqa-lora-64", 190, settings(method__rank=64), predicted=9300.0
    )
    curves(ledger, done, steps=84, of=84, floor=0.84)
    runs.set_measured_memory(ledger, done, 9450.0)
    runs.set_result(ledger, done, kind="adapter", path="adapter/best")
    finish(ledger, done, State.FINISHED)
    made["pubmedqa-lora-16"] = live = add(ledger, folder, "pubmedqa-lora-16", 12, settings(), predicted=9300.0)
    runs.set_measured_memory(ledger, live, 9420.0)
    work(ledger, live)
    curves(ledger, live, steps=52, of=84, floor=0.88)
    happenings(ledger, live)
    for_all = {name: runs.find(ledger, run.uid) for name, run in made.items()}
    return Example(Session(ledger, folder, clock=lambda: NOW, gpus=lambda: GPUS, room=lambda _: ROOM), for_all)


def add(
    ledger: Ledger,
    folder: Path,
    name: str,
    minutes_ago: float,
    values: Mapping[str, object],
    predicted: float | None = None,
) -> Run:
    """A run that was created so many minutes before `NOW`."""
    run = runs.create(
        ledger, name=name, runs_folder=folder, profile="", settings=values, steps=None, predicted_mib=predicted
    )
    with ledger.transaction() as connection:
        connection.execute(
            "UPDATE run SET created = ?, comparable = ? WHERE id = ?",
            (NOW - minutes_ago * MINUTE, str(values["data.0.source"]), run.id),
        )
    return run


def work(ledger: Ledger, run: Run) -> jobs.Job:
    """A training job of this process, so that it is alive."""
    job = jobs.sign_in(
        ledger, jobs.create(ledger, "train", run=run.id, argument={}, log=run.folder / "log.txt"), pid=os.getpid()
    )
    jobs.set_state(ledger, job, State.RUNNING)
    return job


def vanish(ledger: Ledger, run: Run) -> None:
    """A job that says it runs and whose process is not there."""
    job = work(ledger, run)
    with ledger.transaction() as connection:
        connection.execute("UPDATE job SET pid_started = 1 WHERE id = ?", (job.id,))


def finish(ledger: Ledger, run: Run, state: State, *, cause: str = "", message: str = "") -> None:
    """Its job has ended."""
    jobs.set_state(ledger, work(ledger, run), state, cause=cause, message=message)


def curves(ledger: Ledger, run: Run, *, steps: int, of: int, floor: float) -> None:
    """A loss that falls to `floor`, with everything else that training writes, one step every 10 s up to `NOW`."""
    noise = np.random.default_rng(run.id)
    rows: list[Row] = []

    def log(step: int, values: Mapping[str, float]) -> None:
        rows.append(Row(0, step, NOW - (steps - step) * 10, tuple(values), tuple(values.values())))

    for step in range(1, steps + 1):
        loss = floor + 0.5 * float(np.exp(-step / (of / 5))) + float(noise.normal(0, 0.02))
        log(
            step,
            {
                "train/loss": loss,
                "train/grad_norm": 8.1 if step == 47 else 1.2 + float(noise.normal(0, 0.1)),
                "train/rate": 2e-4 * (1 - step / of),
                "train/tokens": 1400.0 * step,
                "train/tokens_per_second": 4120.0,
                "train/epoch": 3 * step / of,
                "memory/process_mib": 9420.0,
                "time/data": 0.1,
                "time/forward": 3.1,
                "time/backward": 6.4,
                "time/update": 0.3,
                "time/save": 1.1 if step == 50 else 0.0,
            },
        )
        if step % 10 == 0:
            log(step, {"validation/loss": floor + 0.45 * float(np.exp(-step / (of / 4)))})
    with ledger.transaction() as connection:
        Packer(run.id).write(connection, rows)
    runs.progress(ledger, run, step=steps, steps=of, ends=NOW + (of - steps) * 10 + 20)


def happenings(ledger: Ledger, run: Run) -> None:
    """Events and a checkpoint."""
    checkpoints.add(
        ledger, run.id, step=50, path="checkpoints/step-000050", size=500_000_000, validation=0.9, best=True
    )
    told = [
        (8.0, None, "info", "started", "training begins: 450 rows, 84 steps"),
        (4.0, 47, "warning", "gradient", "gradient norm 8.1 at step 47 (usual 1.1-1.4)"),
        (1.0, 50, "info", "checkpoint", "checkpoint 50 saved (.5 GB, 1.1 s), best so far"),
    ]
    for minutes_ago, step, level, kind, text in told:
        events.add(ledger, kind, text, run=run.id, step=step, level=level)  # type: ignore[arg-type]
        with ledger.transaction() as connection:
            connection.execute(
                "UPDATE event SET time = ? WHERE id = (SELECT max(id) FROM event)", (NOW - minutes_ago * MINUTE,)
            )
