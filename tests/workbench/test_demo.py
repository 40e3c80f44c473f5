"""What the demonstration is made of: the same every time, true to its thresholds, and nothing that is asked was trained on."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import jobs as processes
from engine import places, profile_file
from engine.data.question import prompt_hash
from engine.data.render import Renderer
from engine.data.tokenizer import load_tokenizer
from engine.errors import Problem
from engine.evaluate.scorers import declines, extract_choice
from engine.evaluate.suites import Suite, read_suite
from engine.ledger import Ledger, jobs, runs
from engine.ledger.states import State
from engine.profile import flat
from tests.tiny import make_llama
from workbench.demo import facts, foundation, speech, story, suites, tokenizer, weather
from workbench.demo.relations import RELATIONS


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Suite]:
    """The suites as they are read back from their files."""
    folder = tmp_path_factory.mktemp("suites")
    return {path.stem: read_suite(path) for path in suites.write(folder)}


# Speech readings


@pytest.mark.parametrize(
    ("measures", "label"),
    [
        ((1.04, 3.81, 20.0), "within normal limits"),  # at the thresholds, not beyond them
        ((1.05, 3.81, 20.0), "rough"),
        ((1.04, 3.82, 20.0), "rough"),
        ((1.04, 3.81, 19.9), "breathy"),
        ((1.05, 3.82, 19.9), "hoarse"),
    ],
)
def test_thresholds_decide_the_label(measures: tuple[float, float, float], label: str) -> None:
    assert speech.label_of(*measures) == label


def test_readings_agree_with_their_measures_and_carry_units() -> None:
    for row in speech.readings(400, seed=3):
        measures = float(row.jitter_percent), float(row.shimmer_percent), float(row.hnr_db)
        assert row.label == row.reading == speech.label_of(*measures)
        assert extract_choice(row.reading, speech.LABELS) == row.label
        assert 85 <= int(row.f0_hz) <= 255
    assert all(unit in speech.QUESTION for unit in (" Hz", " %", " dB"))


@given(count=st.integers(4, 60), seed=st.integers(0, 2**31))
def test_readings_are_balanced_distinct_and_the_same_for_a_seed(count: int, seed: int) -> None:
    rows = speech.readings(count, seed)
    assert rows == speech.readings(count, seed)
    shares = Counter(row.label for row in rows)
    assert max(shares.values()) - min(shares.values()) <= 1
    assert len({(row.f0_hz, row.jitter_percent, row.shimmer_percent, row.hnr_db) for row in rows}) == count


def test_no_value_lies_in_the_gap_around_a_threshold() -> None:
    for row in speech.readings(400, seed=5):
        assert not 0.95 < float(row.jitter_percent) < 1.15
        assert not 3.50 < float(row.shimmer_percent) < 4.10
        assert not 19.0 < float(row.hnr_db) < 21.0


# What the base is to know


def test_there_are_about_a_hundred_facts_each_asked_in_several_ways() -> None:
    known = facts.facts()
    assert 80 <= len(known) <= 120
    assert len({fact.id for fact in known}) == len(known)
    for fact in known:
        assert len(set(fact.questions)) == 4
        assert fact.held_out is not None and fact.questions[fact.held_out] not in fact.trained
        assert len(fact.trained) == 3


def test_no_question_has_two_answers() -> None:
    answers: dict[str, str] = {}
    for row in foundation.rows():
        assert answers.setdefault(row["question"], row["answer"]) == row["answer"]


def test_sums_are_right() -> None:
    for fact in facts.sums():
        assert eval(fact.id) == int(fact.answer) >= 0


def test_base_rows_are_the_same_every_time_and_have_their_own_ids() -> None:
    rows = list(foundation.rows())
    assert rows == list(foundation.rows())
    assert len({row["id"] for row in rows}) == len(rows)


def test_invented_names_are_not_things_that_the_base_knows() -> None:
    real = {thing.lower() for relation in RELATIONS for thing in relation.answers}
    assert real.isdisjoint(name.lower() for name in (*suites.trained_names(), *suites.trap_names()))


# Suites


def test_suites_are_valid_and_large_enough_to_see_something(written: dict[str, Suite]) -> None:
    assert {name: len(suite.items) for name, suite in written.items()} == {
        "retention": len(facts.facts()) + len(facts.sums()) + len(facts.descriptions()) + suites.REPORTS,
        "consistency": len(facts.facts()[::2]),
        "hallucination": 80,
    }


def test_consistency_asks_each_question_in_a_wording_that_training_never_saw(written: dict[str, Suite]) -> None:
    trained = {row["question"] for row in foundation.rows()}
    for item in written["consistency"].items:
        assert len(item.prompts) == 4
        assert sum(prompt not in trained for prompt in item.prompts) == 1


def test_every_trap_has_a_twin_in_the_same_wording_about_a_thing_that_the_base_knows(written: dict[str, Suite]) -> None:
    items = {item.id: item for item in written["hallucination"].items}
    trained = {row["question"] for row in foundation.rows()}
    traps = [item for item in items.values() if item.trap]
    assert len(traps) == suites.TRAPS
    for trap in traps:
        assert trap.twin is not None
        twin = items[trap.twin]
        assert trap.prompt not in trained and twin.prompt in trained
        assert twin.answer and not trap.answer
        thing = trap.id.split("-", 2)[2]
        start = trap.prompt.lower().index(thing)
        assert twin.prompt.startswith(trap.prompt[:start])
        assert twin.prompt.endswith(trap.prompt[start + len(thing) :])


def test_trap_names_occur_in_no_training_row(written: dict[str, Suite]) -> None:
    everything = " ".join(row["question"] for row in foundation.rows()).lower()
    assert not [name for name in suites.trap_names() if name.lower() in everything]


def test_what_the_base_says_of_unknown_things_is_read_as_declining() -> None:
    assert declines(facts.UNKNOWN)
    assert not any(declines(fact.answer) for fact in (*facts.facts(), *facts.sums(), *facts.descriptions()))


def test_nothing_that_is_asked_is_in_the_rows_that_are_tuned_on(written: dict[str, Suite]) -> None:
    tuned = {prompt_hash(speech.QUESTION.format(**row)) for row in speech.rows(story.ROWS, 21)}
    asked = {prompt_hash(prompt) for suite in written.values() for item in suite.items for prompt in item.prompts}
    assert tuned.isdisjoint(asked)


def test_retention_asks_about_days_that_the_base_never_saw(written: dict[str, Suite]) -> None:
    trained = {row["question"] for row in foundation.rows()}
    days = [item for item in written["retention"].items if item.id.startswith("day-")]
    assert len(days) == suites.REPORTS
    assert not [item.id for item in days if item.prompt in trained]


def test_a_day_is_read_by_its_limits() -> None:
    for report in weather.reports(50, seed=8):
        wind, rain, heat = (float(part.split()[-1].rstrip(".")) for part in report.questions[0].split(","))
        label = weather.LABELS[(wind > 18 or rain > 4.5) + 2 * (heat < 10.5)]
        assert report.answer.startswith(f"{label}: ")


# Tokenizer and profiles


def test_the_tokenizer_loads_speaks_in_turns_and_writes_any_text(tmp_path: Path) -> None:
    size = tokenizer.train(["What is the capital of France?", "Paris"], tmp_path, vocabulary=300, context=2048)
    loaded = load_tokenizer(str(tmp_path))
    assert loaded.vocabulary == size
    assert loaded.pad_id != loaded.eos_ids[0]
    assert loaded.max_length == 2048
    for text in ("Zürich 3,81 % 声", "<|end|>"):
        assert loaded.tokenizer.decode(loaded.tokenizer.encode(text).ids, skip_special_tokens=False) == text
    profile = story.tuning(tmp_path)
    prompt = Renderer(loaded, profile.template).prompt([])
    assert loaded.tokenizer.decode(prompt, skip_special_tokens=False) == "<|assistant|>"


def test_the_tuning_profile_is_the_shipped_one_with_the_demonstrations_own_data(tmp_path: Path) -> None:
    profile = story.tuning(tmp_path)
    shipped = profile_file.read(profile_file.find("speech-analysis"))
    assert profile.data[0].columns == shipped.data[0].columns
    assert profile.data[0].columns["instruction"] == speech.QUESTION
    assert profile.hardware.device == "cpu"
    data = Path(profile.data[0].source)
    assert data.is_relative_to(places.cache())
    assert len(data.read_bytes().splitlines()) == story.ROWS
    assert {"f0_hz", "jitter_percent", "shimmer_percent", "hnr_db", "label", "reading"} <= set(
        orjson.loads(data.read_bytes().splitlines()[0])
    )
    assert [Path(name).stem for name in profile.evaluation.suites] == ["test", *suites.SUITES]


def test_there_is_no_base_model_before_it_was_made() -> None:
    assert foundation.find() is None


# The story


def test_a_base_model_that_did_not_come_about_ends_the_story_with_its_reason(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = _run_of_a_base(ledger, tmp_path, monkeypatch)
    stage = story.Stage("Making the base model", left, jobs.of_run(ledger, left.id)[-1])
    jobs.set_state(ledger, stage.job, State.FAILED, cause="disk", message="The disk is full")
    assert story.ended(ledger, stage)
    with pytest.raises(Problem, match="demo-base") as told:
        story.finished(ledger, stage)
    assert told.value.why == "The disk is full"
    assert str(stage.job.log) in told.value.do and "workbench demo" in told.value.do


def test_a_base_model_in_the_making_is_waited_for_not_begun_again(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = _run_of_a_base(ledger, tmp_path, monkeypatch)
    jobs.sign_in(ledger, jobs.of_run(ledger, left.id)[-1], pid=os.getpid())
    assert foundation.start(ledger, tmp_path / "runs").uid == left.uid
    assert len(runs.listed(ledger)) == 1


def test_a_finished_base_is_kept_whole_and_found_again(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_base: Path
) -> None:
    left = _run_of_a_base(ledger, tmp_path, monkeypatch)
    with pytest.raises(Problem, match="left no model"):
        foundation.keep(left)
    shutil.copytree(tiny_base, left.folder / "model" / "last")
    runs.set_result(ledger, left, kind="model", path="model/last")
    kept = foundation.keep(runs.find(ledger, left.uid))
    assert foundation.find() == kept
    assert {path.name for path in kept.iterdir()} == {path.name for path in tiny_base.iterdir()}
    assert foundation.keep(runs.find(ledger, left.uid)) == kept, "a second one that comes late changes nothing"


def test_a_tuned_run_that_still_trains_is_gone_on_with(ledger: Ledger, tmp_path: Path) -> None:
    base = tmp_path / "base"
    profile = story.tuning(base)
    left = runs.create(
        ledger, name=story.NAME, runs_folder=tmp_path, profile=profile_file.dump(profile), settings=flat(profile)
    )
    job = jobs.create(ledger, "train", run=left.id, argument={}, log=tmp_path / "log.txt")
    jobs.sign_in(ledger, job, pid=os.getpid())
    assert (found := story._left_behind(ledger, base)) is not None and found.uid == left.uid
    assert story._left_behind(ledger, tmp_path / "another") is None
    jobs.set_state(ledger, job, State.FINISHED)
    assert story._left_behind(ledger, base) is None


def _run_of_a_base(ledger: Ledger, folder: Path, monkeypatch: pytest.MonkeyPatch) -> runs.Run:
    """A base's run as `foundation.start` makes it, but for the process."""
    monkeypatch.setattr(processes, "spawn", lambda *_: None)
    monkeypatch.setattr(foundation, "_write_start", _write_tiny_start)
    return foundation.start(ledger, folder / "runs")


def _write_tiny_start(folder: Path) -> None:
    make_llama(folder)
    with (folder / "rows.jsonl").open("wb") as file:
        file.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in foundation.rows())
