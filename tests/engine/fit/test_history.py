"""What past runs on a GPU teach: how wrong predictions were, how fast it is, and which failures a profile would repeat."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.fit import cards, history
from engine.fit.failures import failures
from engine.fit.recorded import Figures, kept
from engine.ledger import Ledger, contexts, events, jobs, runs
from engine.ledger.contexts import Context
from engine.ledger.metrics import Writer
from engine.ledger.runs import Run
from engine.ledger.states import State
from engine.profile import Profile, changed, flat
from tests.tiny import tiny_profile

RTX = cards.named("RTX 4090")


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    on_gpu = {"model.dtype": "bfloat16", "training.effective_batch": 32, "training.micro_batch": 8}
    on_gpu |= {"template.max_tokens": 1024, "method.rank": 16}
    return tiny_profile(tmp_path / "base", tmp_path / "rows.jsonl", **on_gpu)


def ran(ledger: Ledger, profile: Profile, *, gpu: str = "RTX 4090", **environment: object) -> Run:
    """A run of it that has ended, on one GPU of this name."""
    run = runs.create(ledger, name="run", runs_folder=ledger.path.parent, profile="", settings=flat(profile))
    runs.set_conditions(ledger, run, gpu=gpu, comparable="")
    runs.record(ledger, run, environment=environment)
    return run


def ended(ledger: Ledger, run: Run, state: State, cause: str = "") -> None:
    job = jobs.create(ledger, "train", run=run.id, argument={}, log=run.folder / "log.txt")
    jobs.set_state(ledger, job, state, cause=cause)


def memory(predicted: float, measured: float | None, source: str = "simulated") -> dict[str, object]:
    return kept(
        predicted=Figures(source, process_mib=predicted),
        measured=Figures("driver", process_mib=measured) if measured is not None else None,
    )


def test_errors_are_those_of_runs_on_this_gpu_that_were_predicted_and_measured(
    ledger: Ledger, profile: Profile
) -> None:
    assert history.errors(ledger, "GeForce RTX 4090") is None
    ran(ledger, profile, **memory(980, 1000))
    ran(ledger, profile, **memory(1010, 1000))
    ran(ledger, profile, **memory(1010, None))
    ran(ledger, profile, **memory(2000, 1000), gpu="H200")
    ran(ledger, profile, **memory(1500, 1000, "estimated"))
    halved = ran(ledger, profile, **memory(500, 1000))
    events.add(ledger, "memory", "Out of memory", run=halved.id, detail={"work": "training", "halvings": 1})
    found = history.errors(ledger, "GeForce RTX 4090")
    assert found == history.PastErrors(2, pytest.approx(1.5), pytest.approx(-2.0))
    estimated = history.errors(ledger, "RTX 4090", "estimated")
    assert estimated is not None and (estimated.runs, estimated.worst_pct) == (1, pytest.approx(50))
    ran(ledger, profile, **memory(300, 1000), gpu="cpu")
    assert history.errors(ledger, "CPU") is None, "what is said of a CPU is a lower bound"


def test_runs_on_gpus_of_one_kind_count_whatever_they_are_called(ledger: Ledger, profile: Profile) -> None:
    for gpu in ("H100 80GB", "H100", "2x H100 80GB", "RTX 4090"):
        ran(ledger, profile, **memory(980, 1000), gpu=gpu)
    for name in ("H100", "NVIDIA H100 80GB HBM3"):
        found = history.errors(ledger, name)
        assert found is not None and found.runs == 2, name
    assert history.errors(ledger, "A card of nobody") is None


def test_runs_of_others_and_those_in_the_bin_do_not_count_nor_more_than_the_newest(
    ledger: Ledger, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "COUNTED", 2)
    for predicted in (500, 990, 1020):
        ran(ledger, profile, **memory(predicted, 1000))
    thrown, theirs = (ran(ledger, profile, **memory(100, 1000)) for _ in range(2))
    with ledger.transaction() as connection:
        connection.execute("UPDATE run SET deleted = 1.0 WHERE id = ?", (thrown.id,))
        connection.execute("UPDATE run SET source = 'wandb' WHERE id = ?", (theirs.id,))
    assert history.errors(ledger, "RTX 4090") == history.PastErrors(2, pytest.approx(1.5), pytest.approx(2.0))


def test_what_is_not_json_is_no_run_s_memory(ledger: Ledger, profile: Profile) -> None:
    run = ran(ledger, profile, **memory(980, 1000))
    with ledger.transaction() as connection:
        connection.execute("UPDATE run_document SET environment = '{\"a\": NaN}' WHERE run = ?", (run.id,))
    assert history.errors(ledger, "RTX 4090") is None


def test_cuda_s_context_is_that_of_the_card_or_of_one_like_it(ledger: Ledger) -> None:
    assert history.context_mib(ledger, RTX) is None
    contexts.keep(ledger, Context("GPU-7", "580", "2.13.0", "RTX 4090", 411.0, 16.0, 1.0))
    assert history.context_mib(ledger, RTX) == 411.0
    own = replace(RTX, uuid="GPU-8")
    contexts.keep(ledger, Context("GPU-8", "580", "2.13.0", "RTX 4090", 433.0, 16.0, 1.0))
    assert history.context_mib(ledger, own) == 433.0, "its own, whatever others of its kind have"
    assert history.context_mib(ledger, replace(RTX, uuid="GPU-7")) == 411.0


def test_how_fast_runs_like_it_were_makes_the_card_s_share_of_its_rate_narrower(
    ledger: Ledger, profile: Profile
) -> None:
    assert history.taught(ledger, RTX, profile) == RTX
    plain, recomputing = ran(ledger, profile), ran(ledger, changed(profile, {"training.checkpoint_activations": True}))
    other = ran(ledger, changed(profile, {"model.quantization": "nf4"}))
    for run, mfu in ((plain, 0.3), (recomputing, 0.24), (other, 0.1)):
        ended(ledger, run, State.FINISHED)
        runs.record(ledger, run, environment={"work": {"tokens": 2000}})
        with Writer(ledger, run.id) as log:
            for step in range(3):
                log.log(step, {"train/tokens_per_second": 500.0, "train/mfu": mfu, "energy/joules": 100.0 * step})
    found = history.rates(ledger, "NVIDIA GeForce RTX 4090")
    assert [rate.mfu for rate in found] == pytest.approx([0.1, 0.24, 0.3])
    assert [rate.tokens_per_second for rate in found] == pytest.approx([500.0] * 3)
    assert [rate.watts for rate in found] == pytest.approx([50.0] * 3), "200 J in the 4 s that 2,000 tokens took"
    card = history.taught(ledger, RTX, profile)
    assert card.watts == pytest.approx((45.0, 55.0))
    assert card.efficiency == pytest.approx((0.9 * 0.3, 1.1 * 0.24 * 3 / 2)), "0.24 without what was computed twice"


def test_energy_of_a_resumed_run_is_not_all_of_it_and_no_card_takes_more_than_it_is_made_for(
    ledger: Ledger, profile: Profile
) -> None:
    full = changed(profile, {"method.name": "full", "training.checkpoint_activations": True})
    once, resumed = ran(ledger, full), ran(ledger, full)
    for run, jobs_of_it, joules in ((once, 1, 1760.0), (resumed, 2, 100.0)):
        for _ in range(jobs_of_it):
            ended(ledger, run, State.FINISHED)
        runs.record(ledger, run, environment={"work": {"tokens": 2000}})
        with Writer(ledger, run.id) as log:
            log.log(1, {"train/tokens_per_second": 500.0, "train/mfu": 0.3, "energy/joules": joules})
    assert [rate.watts for rate in history.rates(ledger, "RTX 4090")] == [None, pytest.approx(440.0)]
    card = history.taught(ledger, RTX, full)
    assert card.watts == pytest.approx((396.0, 450.0))
    assert card.efficiency == pytest.approx((0.9 * 0.4, 1.1 * 0.4)), "a fourth pass for what was recomputed"
    assert RTX.spec
    weaker = replace(RTX, spec=replace(RTX.spec, watts=300.0))
    assert history.taught(ledger, weaker, full).watts == (300.0, 300.0), "from and to never change places"


def test_a_failure_is_told_to_who_would_repeat_it_and_to_nobody_else(ledger: Ledger, profile: Profile) -> None:
    profile = changed(profile, {"model.attention": "eager", "method.dora": True, "training.row_tokens": 2048})
    run = ran(ledger, profile)
    ended(ledger, run, State.FAILED, "OOM at 12")
    [same] = failures(ledger, profile, RTX)
    assert (same.run, same.cause, same.differs) == (run.name, "OOM at 12", ())
    larger = changed(profile, {"training.micro_batch": 16, "method.rank": 64})
    [found] = failures(ledger, larger, RTX)
    assert found.differs == (("method.rank", 16, 64), ("training.micro_batch", 8, 16))
    for way_out in (
        {"training.micro_batch": 4},
        {"training.checkpoint_activations": True},
        {"model.quantization": "nf4"},
        {"training.optimizer": "adamw_8bit"},
        {"template.max_tokens": 512},
        {"model.base": "another"},
        {"training.objective": "orpo"},
        {"model.attention": "sdpa"},
        {"method.dora": False},
        {"training.row_tokens": 1024},
        {"method.name": "ia3", "method.dora": False},
    ):
        assert failures(ledger, changed(larger, way_out), RTX) == (), way_out
    assert failures(ledger, profile, cards.named("H200")) == ()
    auto = changed(profile, {"training.micro_batch": "auto"})
    assert [each.differs for each in failures(ledger, auto, RTX)] == [(("training.micro_batch", 8, "auto"),)]


def test_a_run_that_went_on_with_less_and_numbers_that_were_not_finite_are_failures_too(
    ledger: Ledger, profile: Profile
) -> None:
    halved = ran(ledger, profile)
    ended(ledger, halved, State.FINISHED)
    events.add(ledger, "memory", "Out of memory", run=halved.id, detail={"work": "training", "halvings": 1})
    assert "went on with less" in failures(ledger, profile, RTX)[0].cause
    lost = ran(ledger, changed(profile, {"model.dtype": "float16", "training.learning_rate": 1e-3}))
    ended(ledger, lost, State.FAILED, "NaN")
    small = changed(profile, {"training.micro_batch": 1})
    assert failures(ledger, small, RTX) == (), "bfloat16 and a lower rate"
    [found] = failures(ledger, changed(small, {"model.dtype": "float16", "training.learning_rate": 2e-3}), RTX)
    assert (found.cause, [key for key, *_ in found.differs]) == ("NaN", ["training.learning_rate"])


def test_only_a_few_are_told_the_newest_first(ledger: Ledger, profile: Profile) -> None:
    for _ in range(5):
        ended(ledger, ran(ledger, profile), State.FAILED, "OOM at 1")
    assert [each.run for each in failures(ledger, profile, RTX)] == ["run-5", "run-4", "run-3"]
