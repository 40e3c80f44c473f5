"""`workbench fit --check`: a run's memory is predicted again and held against what was measured; what cannot be compared is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.fit import check, recorded
from engine.fit.predicting import Predicted
from engine.fit.question import Part, Phase, Question, Step
from engine.fit.recorded import Figures
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


class Says:
    """A predictor that says one thing, and remembers what it was asked."""

    def __init__(self, allocated_mib: float, reserved_mib: float) -> None:
        self.asked: list[Question] = []
        phases = {Phase.FORWARD: (allocated_mib * MIB, reserved_mib * MIB)}
        self._answer = Predicted(allocated_mib * MIB, reserved_mib * MIB, dict.fromkeys(Part, 0.0), phases, "simulated")

    def predict(self, question: Question) -> Predicted:
        self.asked.append(question)
        return self._answer


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
    says = Says(1010.0, 1190.0)
    found = check.check(ledger, run, says)
    [asked] = says.asked
    assert asked.step == STEP
    assert (asked.machine.capability, asked.machine.ranks, asked.model["dtype"]) == ((8, 9), 1, "bfloat16")
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
    assert found.phases[Phase.STEP][0].now is None, "a predictor that does not tell phases apart says nothing of them"


@pytest.mark.parametrize(("allocated", "reserved"), [(1030.0, 1200.0), (970.0, 1200.0), (1000.0, 1250.0)])
def test_a_figure_that_is_off_does_not_hold(ledger: Ledger, run: Run, allocated: float, reserved: float) -> None:
    assert not check.check(ledger, run, Says(allocated, reserved)).holds


def test_a_cpu_s_prediction_is_a_lower_bound(ledger: Ledger, run: Run) -> None:
    cpu = {"device": {"type": "cpu"}, **recorded.kept(measured=Figures("resident", process_mib=900.0))}
    runs.record(ledger, run, environment=cpu)
    with ledger.transaction() as connection:
        connection.execute("UPDATE run_document SET environment = json_remove(environment, '$.memory.measured.phases')")
    says = Says(300.0, 300.0)
    found = check.check(ledger, run, says)
    context, row = found.rows
    assert (context.figure, context.judged) == ("context", False)
    assert (row.figure, row.measured, row.least, found.holds) == ("process", 900.0, True, True)
    assert says.asked[0].machine.capability is None
    assert not check.check(ledger, run, Says(700.0, 700.0)).holds, "more was predicted than was taken"


def test_as_json_and_as_a_table(ledger: Ledger, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["fit", "--check", "speech", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert code == (0 if told["holds"] else 1) == 1, "a tiny model takes no gigabyte"
    assert told["run"] == {"uid": run.uid, "name": "speech"}
    assert told["figures"].keys() == {"allocated", "reserved", "context", "process"}
    allocated = told["figures"]["allocated"]
    assert (allocated["predicted_then_mib"], allocated["measured_mib"], allocated["holds"]) == (900.0, 1000.0, False)
    assert allocated["error_pct"] == pytest.approx(allocated["predicted_mib"] / 10 - 100)
    assert told["phases"].keys() == {"forward", "step"} and told["step"]["tokens"] == 120
    assert main(["fit", "--check", "speech"]) == 1
    table = capsys.readouterr()
    assert table.out.splitlines()[0].split() == ["MiB", "at", "launch", "predicted", "measured", "error"]
    assert table.out.splitlines()[3].split()[:3] == ["context", "400", "412"]
    assert "Off: allocated by -9" in table.err and "2 x 120 tokens on RTX 4090" in table.err


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


def test_an_unmeasured_context_and_a_run_at_work_are_said(ledger: Ledger, run: Run) -> None:
    with ledger.transaction() as connection:
        connection.execute("DELETE FROM context")
        connection.execute("UPDATE run SET state = 'running'")
    found = check.check(ledger, replace(run, state=State.RUNNING), Says(1000.0, 1200.0))
    assert any("was never measured" in note for note in found.notes)
    assert any("peaks so far" in note for note in found.notes)
