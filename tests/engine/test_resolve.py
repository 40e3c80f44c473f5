"""From "auto" to a profile that can be run, and what is refused before anything starts."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from engine import gpu
from engine.errors import Problem
from engine.fit import context
from engine.fit.anchored import FORMULAS
from engine.fit.question import Answer, Question, Step
from engine.gpu import Gpu
from engine.ledger import Ledger, runs
from engine.placing import choose_gpus
from engine.profile import Profile, Training, flat, unresolved
from engine.profile_file import dump
from engine.resolve import cards_for, preference_advice, resolve
from engine.steps import total_steps
from tests.tiny import tiny_profile, write_rows

AUTO: dict[str, object] = {
    "model.attention": "auto",
    "template.max_tokens": "auto",
    "training.micro_batch": "auto",
    "training.packing": "auto",
    "training.checkpoint_activations": "auto",
    "hardware.device": "auto",
    "hardware.gpus": "auto",
}
SMALL = Gpu("GPU-aaaaaaaa-1", 0, "GeForce RTX 4090", total_mib=24_564.0, free_mib=500.0)
LARGE = Gpu("GPU-bbbbbbbb-2", 1, "H200", total_mib=143_771.0, free_mib=100_000.0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl", 64)


@pytest.fixture
def automatic(tiny_base: Path, data: Path) -> Profile:
    return tiny_profile(tiny_base, data, **AUTO)


def test_nothing_is_left_open_without_a_gpu(automatic: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "gpus", lambda: ())
    found = resolve(automatic)
    assert unresolved(found.profile) == []
    values = flat(found.profile)
    assert (values["hardware.device"], values["hardware.gpus"]) == ("cpu", [])
    assert (values["model.attention"], values["training.packing"]) == ("sdpa", True)
    assert values["training.micro_batch"] == 4  # the whole effective batch: not above eight
    assert 16 <= int(str(values["template.max_tokens"])) <= 512
    assert found.steps == 24
    assert any("CPU" in note for note in found.notes)
    assert resolve(found.profile).profile == found.profile


@pytest.mark.parametrize(("batch", "rows"), [(16, 8), (12, 6), (7, 7), (13, 1), (1, 1)])
def test_on_a_cpu_the_micro_batch_is_the_largest_divisor_up_to_eight(
    tiny_base: Path, data: Path, batch: int, rows: int
) -> None:
    cpu = {**AUTO, "training.effective_batch": batch, "hardware.device": "cpu"}
    assert resolve(tiny_profile(tiny_base, data, **cpu)).profile.training.micro_batch == rows


def test_auto_takes_the_gpu_with_most_free_memory_by_uuid(automatic: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "gpus", lambda: (SMALL, LARGE))
    found = resolve(automatic).profile
    assert found.hardware.device == "cuda"
    assert found.hardware.gpus == (LARGE.uuid,)
    assert found.training.checkpoint_activations is False


def test_what_cuda_holds_of_the_gpu_is_measured_before_the_first_run_and_counted(
    automatic: Profile, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "gpus", lambda: (LARGE,))
    usual = resolve(automatic).prediction
    monkeypatch.setattr(context, "MEASURE", (sys.executable, "-c", "import sys; sys.exit('no kernel image')"))
    unknown = resolve(automatic, ledger)
    assert usual and unknown.prediction and unknown.prediction.parts == usual.parts
    assert any("could not be measured: no kernel image" in note for note in unknown.notes)
    told = 'print(\'{"mib": 612.5, "workspace_mib": 64}\')'
    monkeypatch.setattr(context, "MEASURE", (sys.executable, "-c", told))
    assert resolve(automatic, ledger).prediction.parts.context == 612.5  # type: ignore[union-attr]
    monkeypatch.setattr(context, "MEASURE", ("false",))
    again = resolve(automatic, ledger)
    assert again.prediction and again.prediction.parts.context == 612.5, "it is kept"
    assert not any("measured" in note for note in again.notes)


def test_a_gpu_without_room_is_said_and_not_hidden(
    tiny_base: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "gpus", lambda: (SMALL, LARGE))
    found = resolve(tiny_profile(tiny_base, data, **{**AUTO, "hardware.gpus": (0,)}))
    assert found.profile.hardware.gpus == (SMALL.uuid,)
    assert any("may not fit" in note for note in found.notes)
    assert found.profile.training.checkpoint_activations is True


def test_gpus_are_named_by_index_or_uuid_and_a_wrong_one_is_refused() -> None:
    there = (SMALL, LARGE)
    assert choose_gpus((1,), there) == (LARGE,)
    assert choose_gpus(("GPU-aaaaaaaa",), there) == (SMALL,)
    for wrong in ((2,), ("GPU-cccccccc",)):
        with pytest.raises(Problem, match="There is no GPU") as caught:
            choose_gpus(wrong, there)
        assert "H200" in str(caught.value)
    assert choose_gpus((1, 0), there) == (LARGE, SMALL)
    assert choose_gpus("auto", there, 2) == (LARGE, SMALL)
    with pytest.raises(Problem, match="twice"):
        choose_gpus((0, "GPU-aaaaaaaa"), there)
    for ranks, named in ((3, "auto"), (2, (0,))):
        with pytest.raises(Problem, match=r"hardware\.ranks"):
            choose_gpus(named, there, ranks)


def test_one_rank_may_run_on_any_gpu() -> None:
    asked = {"model": {"base": "x"}, "data": [{"source": "y"}], "hardware": {"ranks": 1}}
    assert [card.uuid for card in cards_for(Profile.model_validate(asked), (SMALL, LARGE))] == [SMALL.uuid, LARGE.uuid]


def test_several_gpus_replicate_while_the_model_fits_and_cut_it_where_it_does_not(
    tiny_base: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = {**AUTO, "hardware.gpus": (0, 1), "hardware.ranks": "auto", "hardware.sharding": "auto"}

    def found(free_mib: float, **settings: object) -> Profile:
        there = (replace(LARGE, uuid="GPU-cccccccc-3", index=0), replace(LARGE, free_mib=free_mib))
        monkeypatch.setattr(gpu, "gpus", lambda: there)
        return resolve(tiny_profile(tiny_base, data, **{**several, **settings})).profile

    roomy = found(100_000.0)
    assert (roomy.hardware.ranks, roomy.hardware.sharding) == (2, "replicate")
    assert roomy.hardware.gpus == ("GPU-cccccccc-3", LARGE.uuid)
    assert int(roomy.training.micro_batch) <= 2  # of 4 examples a step, half of which are a rank's
    full = found(500.0)
    assert (full.hardware.sharding, full.training.micro_batch) == ("shard", 1)
    assert found(500.0, **{"training.optimizer": "adafactor"}).hardware.sharding == "replicate"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("training.effective_batch", 1, "training.effective_batch = 1"),
        ("model.quantization", "int8", "model.quantization = int8"),
        ("method.name", "prefix", "method.name = prefix"),
        ("training.optimizer", "adamw_8bit", "training.optimizer = adamw_8bit"),
    ],
)
def test_what_cannot_be_shared_between_ranks_is_refused_with_the_reason(
    tiny_base: Path, data: Path, key: str, value: object, words: str
) -> None:
    two = {**AUTO, "hardware.device": "cpu", "hardware.gpus": "auto", "hardware.ranks": 2, "hardware.sharding": "shard"}
    with pytest.raises(Problem, match=words) as caught:
        resolve(tiny_profile(tiny_base, data, **{**two, key: value}))
    assert caught.value.why and caught.value.do


def test_cuda_without_a_gpu_is_an_error_with_the_reason(
    tiny_base: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "gpus", lambda: ())
    monkeypatch.setattr(gpu, "why_none", lambda: "There is no driver.")
    with pytest.raises(Problem, match="there is no GPU") as caught:
        resolve(tiny_profile(tiny_base, data, **{**AUTO, "hardware.device": "cuda"}))
    assert caught.value.why == "There is no driver."


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("model.base", "./no-such-folder", "model"),
        ("model.base", "owner/not-in-the-cache", "network"),
        ("data.0.source", "no-such-file.jsonl", "data"),
        ("data.0.columns", {"instruction": "instrucion", "response": "output"}, "data"),
        ("split.stratify", "no-such-column", "data"),
        ("evaluation.suites", ["retentoin"], "suite"),
        ("evaluation.suites", ["test"], "suite"),
        ("method.targets", ["q_porj"], "model"),
        ("model.base", "run:nobody", "run"),
        ("training.optimizer", "paged_adamw_8bit", "optimizer"),  # there is no GPU
    ],
)
def test_what_cannot_be_run_is_refused(automatic: Profile, ledger: Ledger, key: str, value: object, code: str) -> None:
    values = json.loads(automatic.model_dump_json())
    place = values["data"][0] if key.startswith("data.") else values[key.split(".")[0]]
    place[key.rsplit(".")[-1]] = value
    with pytest.raises(Problem) as caught:
        resolve(Profile.model_validate(values), ledger)
    assert caught.value.code == code


def _ended(ledger: Ledger, profile: Profile, folder: Path, kind: str) -> runs.Run:
    run = runs.create(ledger, name="before", runs_folder=folder, profile=dump(profile), settings=flat(profile))
    (run.folder / "adapter" / "best").mkdir(parents=True)
    runs.set_result(ledger, run, kind=kind, path="adapter/best")
    with ledger.transaction() as connection:
        connection.execute("UPDATE run SET state = 'finished' WHERE id = ?", (run.id,))
    return runs.find(ledger, run.uid)


def test_going_on_from_an_adapter_keeps_its_base_and_shape(automatic: Profile, ledger: Ledger, tmp_path: Path) -> None:
    before = resolve(automatic).profile
    run = _ended(ledger, before, tmp_path / "runs", "adapter")
    changes = {"model": {"base": "run:before"}, "method": {**automatic.method.model_dump(), "rank": 64}}
    found = resolve(Profile.model_validate({**automatic.model_dump(), **changes}), ledger)
    assert found.profile.model.base == before.model.base
    assert found.profile.method.rank == before.method.rank
    assert found.parent == run.uid
    assert any("rank 4" in note for note in found.notes)
    full = {**automatic.model_dump(), "model": {"base": "run:before"}, "method": {"name": "full"}}
    with pytest.raises(Problem, match="left an adapter"):
        resolve(Profile.model_validate(full), ledger)


def test_a_run_without_a_result_cannot_be_gone_on_from(automatic: Profile, ledger: Ledger, tmp_path: Path) -> None:
    run = runs.create(ledger, name="bare", runs_folder=tmp_path, profile=dump(automatic), settings={})
    values = {**automatic.model_dump(), "model": {"base": "run:bare"}}
    with pytest.raises(Problem, match="bare is queued"):
        resolve(Profile.model_validate(values), ledger)
    with ledger.transaction() as connection:
        connection.execute("UPDATE run SET state = 'failed' WHERE id = ?", (run.id,))
    with pytest.raises(Problem, match="no result to go on from"):
        resolve(Profile.model_validate(values), ledger)


@pytest.mark.parametrize(
    ("rows", "settings", "steps"),
    [
        (450, {"epochs": 3}, 87),  # 28 whole batches and one of 2 rows, three times
        (448, {"epochs": 3}, 84),
        (448, {"epochs": 0.5}, 14),
        (100, {"epochs": 1.1}, 8),  # 7, and one for the 10 rows of the tenth
        (3, {"epochs": 1}, 1),
        (450, {"epochs": 3, "max_steps": 5}, 5),
    ],
)
def test_steps(rows: int, settings: dict[str, object], steps: int) -> None:
    training = Training.model_validate({"effective_batch": 16, **settings})
    assert total_steps(rows, training) == steps


@pytest.mark.parametrize(
    ("method", "settings", "told"),
    [
        ("lora", {"objective": "dpo", "learning_rate": 2e-4}, ["high for dpo: with lora 5e-06 to 5e-05"]),
        ("full", {"objective": "orpo", "learning_rate": 1e-5}, ["high for orpo: with full 5e-07 to 5e-06"]),
        ("lora", {"objective": "dpo", "learning_rate": 2e-5}, []),
        ("lora", {"objective": "sft", "learning_rate": 2e-4}, []),
        ("lora", {"objective": "dpo", "learning_rate": 2e-5, "length_normalised": True}, ["about 5 is usual"]),
        ("lora", {"objective": "dpo", "learning_rate": 2e-5, "length_normalised": True, "beta": 5}, []),
    ],
)
def test_a_rate_for_fine_tuning_is_called_high_for_preferences(
    automatic: Profile, method: str, settings: dict[str, object], told: list[str]
) -> None:
    values = {**automatic.model_dump(), "method": {"name": method}, "training": settings}
    notes = preference_advice(Profile.model_validate(values))
    assert len(notes) == len(told) and all(part in note for part, note in zip(told, notes, strict=True))


class Simulating:
    """Answers with what formulas say, or not at all."""

    def __init__(self, fails: Problem | None = None) -> None:
        self.asked = 0
        self._fails = fails
        self._known: dict[str, dict[Step, Answer]] = {}

    def near(self, question: Question) -> Mapping[Step, Answer]:
        return self._known.get(question.key, {})

    def ask(self, question: Question, timeout: float = 0.0) -> Answer:
        self.asked += 1
        if self._fails:
            raise self._fails
        found = FORMULAS.predict(question)
        parts = {part: int(size) for part, size in found.parts.items()}
        self._known[question.key] = {question.step: Answer(int(found.allocated), int(found.reserved), {}, parts)}
        return self._known[question.key][question.step]


def test_a_launch_on_a_gpu_waits_for_a_simulation_and_one_on_the_cpu_does_not(
    automatic: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "gpus", lambda: (LARGE,))
    simulator = Simulating()
    found = resolve(automatic, simulator=simulator).prediction
    assert found and found.source == "simulated"
    assert simulator.asked
    refuses = Simulating(Problem("It was ended", "It took too long.", code="simulation"))
    without = resolve(automatic, simulator=refuses)
    assert without.prediction and without.prediction.source == "estimated"
    assert any("not simulated: It was ended. It took too long" in note for note in without.notes)
    monkeypatch.setattr(gpu, "gpus", lambda: ())
    refuses.asked = 0
    on_cpu = resolve(automatic, simulator=refuses)
    assert on_cpu.prediction and on_cpu.prediction.source == "estimated"
    assert not refuses.asked


def test_a_gpu_whose_memory_is_not_told_is_said(automatic: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "gpus", lambda: (replace(LARGE, total_mib=None, free_mib=None),))
    found = resolve(automatic)
    assert found.prediction is None
    assert any("does not say how much" in note for note in found.notes)
    assert unresolved(found.profile) == []
