"""`workbench fit --check`: a run's memory is predicted again and held against what was measured; what cannot be compared is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.assignment import profile_of
from engine.fit import asking, check, recorded, shapes
from engine.fit.facts import Facts
from engine.fit.kept import Kept
from engine.fit.question import Answer, Machine, Part, Phase, Step
from engine.fit.recorded import Figures
from engine.fit.simulator import Simulator
from engine.gpu import MIB
from engine.ledger import Ledger, contexts, events, jobs, runs
from engine.ledger.contexts import Context
from engine.ledger.runs import Run
from engine.ledger.states import State
from engine.profile import flat
from engine.profile_file import dump
from tests.tiny import tiny_profile
from workbench.cli import main

STEP = Step(2, 120, 64, packed=False, checkpointing=False, accumulates=True)
CUDA = {"type": "cuda", "name": "NVIDIA GeForce RTX 4090", "uuid": "GPU-7", "memory_mib": 24564, "capability": [8, 9]}
MEASURED = Figures("driver", 1000.0, 1200.0, 1611.0, 411.0, {"forward": (1000.0, 1200.0), "step": (700.0, 1200.0)})


def answered(
    ledger: Ledger, run: Run, allocated_mib: float, reserved_mib: float, machine: Machine | None = None
) -> check.Check:
    """The check where the simulation says this; it is asked of a simulator that has it on its disk."""
    profile = profile_of(ledger, run)
    machine = machine or Machine((8, 9) if run.gpu != "cpu" else None)
    facts = Facts(shapes.config_of(profile.model.base), 8, 0, 0, 50, 50.0, 9)
    asked = asking.question(profile, facts, rows=7, checkpointing=False, machine=machine)
    sizes = (int(allocated_mib * MIB), int(reserved_mib * MIB))
    kept = Kept()
    kept.keep(replace(asked, step=STEP), Answer(*sizes, {Phase.FORWARD: sizes}, {Part.WEIGHTS: sizes[0]}))
    simulator = Simulator(kept, command=("false",))
    try:
        return check.check(ledger, run, simulator)
    finally:
        simulator.close()


@pytest.fixture
def run(ledger: Ledger, tiny_base: Path, tmp_path: Path) -> Run:
    """A finished run on an RTX 4090 whose memory was measured."""
    profile = tiny_profile(tiny_base, tmp_path / "rows.jsonl", **{"hardware.device": "cuda", "model.dtype": "bfloat16"})
    predicted = Figures("estimated", 900.0, 1000.0, 1400.0, 400.0)
    made = runs.create(
        ledger,
        name="speech",
        runs_folder=tmp_path,
        profile=dump(profile),
        settings=flat(profile),
        environment={"device": CUDA, **recorded.kept(predicted=predicted, measured=MEASURED, step=STEP)},
    )
    runs.set_conditions(ledger, made, gpu="RTX 4090", comparable="")
    job = jobs.create(ledger, "train", run=made.id, argument={}, log=tmp_path / "log.txt")
    jobs.set_state(ledger, job, State.FINISHED)
    contexts.keep(ledger, Context("GPU-7", "580", "2.13.0", "GeForce RTX 4090", 412.0, 16.0, 1.0))
    return runs.find(ledger, made.uid)


def test_the_recorded_step_is_asked_for_and_every_figure_compared(ledger: Ledger, run: Run) -> None:
    found = answered(ledger, run, 1010.0, 1190.0)
    rows = {row.figure: (row.then, row.now, row.measured) for row in found.rows}
    assert rows == {
        "allocated": (900.0, 1010.0, 1000.0),
        "reserved": (1000.0, 1190.0, 1200.0),
        "context": (400.0, 412.0, 411.0),
        "process": (1400.0, 1602.0, 1611.0),
    }
    assert found.holds and found.source == "simulated" and found.notes == ()
    forward, _ = found.phases[Phase.FORWARD]
    assert (forward.now, forward.measured) == (1010.0, 1000.0)
    assert found.phases[Phase.STEP][0].now is None, "what is not told is not compared"


@pytest.mark.parametrize(("allocated", "reserved"), [(1030.0, 1200.0), (970.0, 1200.0), (1000.0, 1250.0)])
def test_a_figure_that_is_off_does_not_hold(ledger: Ledger, run: Run, allocated: float, reserved: float) -> None:
    assert not answered(ledger, run, allocated, reserved).holds


def test_a_cpu_s_prediction_is_a_lower_bound(ledger: Ledger, run: Run) -> None:
    cpu = {"device": {"type": "cpu"}, **recorded.kept(measured=Figures("resident", process_mib=900.0))}
    runs.record(ledger, run, environment=cpu)
    with ledger.transaction() as connection:
        connection.execute("UPDATE run_document SET environment = json_remove(environment, '$.memory.measured.phases')")
    runs.set_conditions(ledger, run, gpu="cpu", comparable="")
    run = runs.find(ledger, run.uid)
    found = answered(ledger, run, 300.0, 300.0)
    context, row = found.rows
    assert (context.figure, context.judged) == ("context", False)
    assert (row.figure, row.measured, row.least, found.holds) == ("process", 900.0, True, True)
    assert not answered(ledger, run, 700.0, 700.0).holds, "more was predicted than was taken"


def test_as_json_and_as_a_table(ledger: Ledger, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    answered(ledger, run, 900.0, 1195.0)
    assert main(["fit", "--check", "speech", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["run"], told["holds"]) == ({"uid": run.uid, "name": "speech"}, False)
    assert (told["source"], told["step"]["tokens"]) == ("simulated", 120)
    assert told["figures"].keys() == {"allocated", "reserved", "context", "process"}
    assert told["figures"]["allocated"] == {
        "predicted_then_mib": 900.0,
        "predicted_mib": 900.0,
        "measured_mib": 1000.0,
        "error_pct": pytest.approx(-10),
        "holds": False,
    }
    assert told["figures"]["process"]["holds"] and told["phases"].keys() == {"forward", "step"}
    assert main(["fit", "--check", "speech"]) == 1
    table = capsys.readouterr()
    lines = [line.split() for line in table.out.splitlines()]
    assert lines[0] == ["MiB", "at", "launch", "predicted", "measured", "error"]
    assert ["context", "400", "412", "411", "+0.2%"] in lines and ["step", "–", "–", "700", "–"] in lines
    assert "Off: allocated by -10.0% (2 x 120 tokens on RTX 4090, simulated)." in table.err
    answered(ledger, run, 1001.0, 1195.0)
    assert main(["fit", "--check", "speech"]) == 0
    assert "Within 2% or 8 MiB" in capsys.readouterr().err


def test_what_cannot_be_simulated_is_estimated_and_said(ledger: Ledger, run: Run) -> None:
    simulator = Simulator(command=("false",))
    try:
        found = check.check(ledger, run, simulator)
    finally:
        simulator.close()
    assert found.source == "estimated" and not found.holds
    assert any(note.startswith("it is not simulated: ") for note in found.notes)


def test_what_cannot_be_compared_is_a_two_and_says_why(
    ledger: Ledger, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.create(ledger, name="young", runs_folder=tmp_path, profile=dump(tiny_profile(tmp_path, tmp_path)), settings={})
    runs.create(ledger, name="theirs", runs_folder=tmp_path, profile="", settings={}, source="wandb")
    events.add(ledger, "memory", "Out of memory", run=run.id, detail={"work": "training", "halvings": 1})
    for asked, why in (
        (["--check", "young"], "Nothing was measured"),
        (["--check", "theirs"], "It comes from wandb"),
        (["--check", "speech"], "went on with less"),
        (["--check", "speach"], "did you mean speech?"),
        ([], "PROFILE, or --check RUN"),
        (["profile.toml", "--check", "speech"], "PROFILE, or --check RUN"),
    ):
        assert main(["fit", *asked]) == 2
        told = capsys.readouterr()
        assert why in told.err and told.out == "", asked


def test_another_way_of_reserving_memory_is_said(ledger: Ledger, run: Run) -> None:
    runs.record(ledger, run, environment={"device": {"allocation": "max_split_size_mb:128"}})
    assert any("in another way" in note for note in answered(ledger, run, 1000.0, 1200.0).notes)
    runs.record(ledger, run, environment={"device": {"allocation": "expandable_segments:True,max_split_size_mb:128"}})
    assert answered(ledger, run, 1000.0, 1200.0).notes == ()


def test_an_unmeasured_context_and_a_run_at_work_are_said(ledger: Ledger, run: Run) -> None:
    with ledger.transaction() as connection:
        connection.execute("DELETE FROM context")
        connection.execute("UPDATE run SET state = 'running'")
    found = answered(ledger, replace(run, state=State.RUNNING), 1000.0, 1200.0)
    assert any("was never measured" in note for note in found.notes)
    assert any("peaks so far" in note for note in found.notes)


def test_a_run_on_several_gpus_is_asked_for_as_one_of_its_ranks_on_the_gpu_that_it_had(
    ledger: Ledger, run: Run, tiny_base: Path, tmp_path: Path
) -> None:
    parts = {"hardware.device": "cuda", "hardware.gpus": (0, 1), "hardware.ranks": 2, "hardware.sharding": "shard"}
    profile = tiny_profile(tiny_base, tmp_path / "rows.jsonl", **parts, **{"model.dtype": "bfloat16"})
    with ledger.transaction() as connection:
        connection.execute("UPDATE run_document SET profile = ? WHERE run = ?", (dump(profile), run.id))
    runs.record(ledger, run, environment={"device": {"name": "A card of nobody", "capability": [9, 0]}})
    found = answered(ledger, run, 1000.0, 1200.0, Machine((9, 0), 2, "shard"))
    assert (found.source, found.holds) == ("simulated", True)
    assert "measured is the first of 2 ranks" in found.notes
