"""The evaluate job on a real tiny model: one loaded model answers as base and as tuned, and nothing that stands is
asked again.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.helpers import rescale_adapter_scale

from engine import folders, profile_file
from engine.data.examples import Message
from engine.data.prepare import prepare
from engine.data.render import Renderer
from engine.data.tokenizer import load_tokenizer
from engine.errors import Problem
from engine.evaluate import job as evaluate_job
from engine.evaluate.answers import Said
from engine.evaluate.compare import compare
from engine.evaluate.generate import Asker, Prompt, batches, prompts
from engine.evaluate.likelihood import log_likelihoods, read_whole
from engine.evaluate.suites import Suite, read_suite
from engine.ledger import Ledger, evaluations, events, jobs, runs
from engine.ledger.runs import Run
from engine.ledger.states import State
from engine.profile import Profile, Template, flat
from engine.train.pretrained import load_base
from tests.tiny import tiny_profile, write_rows

CPU = torch.device("cpu")


def suite_file(path: Path) -> Path:
    items: list[dict[str, object]] = [
        {
            "id": f"q{number}",
            "prompt": f"Is the voice of recording {number} {'steady ' * (number % 4)}normal or raised?",
            "variants": [f"Recording {number}: raised or normal?"],
            "choices": ["normal", "raised"],
            "answer": "raised" if number % 3 == 0 else "normal",
        }
        for number in range(20)
    ]
    items += [
        {"id": "t", "prompt": "Is Zorbix real?", "choices": ["yes", "no"], "answer": "no", "trap": True, "twin": "r"},
        {"id": "r", "prompt": "Is iron real?", "choices": ["yes", "no"], "answer": "yes", "trap": False},
        {"id": "f", "prompt": "Which word is steady?", "answer": ["steady", "the steady one"]},
        {"id": "long", "prompt": "voice " * 600, "answer": "x"},
    ]
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


@dataclass(frozen=True)
class Tuned:
    """A finished run of the tiny base with an adapter that changes its answers, and a suite for it."""

    run: Run
    profile: Profile
    suite: Path


def add_run(ledger: Ledger, folder: Path, base: Path, *, seed: int = 0, name: str = "tuned") -> Tuned:
    data = write_rows(folder / "rows.jsonl", 12)
    profile = tiny_profile(base, data)
    text = profile_file.dump(profile)
    run = runs.create(ledger, name=name, runs_folder=folder / "runs", profile=text, settings=flat(profile))
    prepare(profile, run.folder)
    torch.manual_seed(seed)
    model = get_peft_model(load_base(profile.model, CPU, trainable=False), LoraConfig(r=4, target_modules="all-linear"))
    for key, parameter in model.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(str(run.folder / "adapter" / "best"))
    runs.set_result(ledger, run, kind="adapter", path="adapter/best")
    runs.record(ledger, run, fingerprints={"result": folders.fingerprint(run.folder / "adapter" / "best")})
    with ledger.transaction() as connection:
        connection.execute("UPDATE run SET state = 'finished' WHERE id = ?", (run.id,))
    return Tuned(runs.find(ledger, run.uid), profile, suite_file(folder / "asked.jsonl"))


@pytest.fixture
def tuned(ledger: Ledger, tmp_path: Path, tiny_base: Path) -> Tuned:
    return add_run(ledger, tmp_path, tiny_base)


def evaluate(ledger: Ledger, run: Run, suite: Path) -> jobs.Job:
    argument: dict[str, object] = {"runs": [run.uid], "suites": [str(suite)]}
    job = jobs.create(ledger, "evaluate", run=run.id, argument=argument, log=run.folder / "evaluate.log")
    evaluate_job.run(ledger, job)
    return jobs.get(ledger, job.uid)


def answers(ledger: Ledger) -> list[tuple[object, ...]]:
    return ledger.rows(
        "SELECT e.run IS NULL, item, variant, answer, extracted, correct, json_extract(i.detail, '$.likelihood')"
        " FROM item i JOIN evaluation e ON e.id = i.evaluation ORDER BY 1, 2, 3"
    )


def renderer_of(base: Path) -> Renderer:
    return Renderer(load_tokenizer(str(base)), Template(max_tokens=128))


def test_base_and_tuned_are_asked_scored_and_comparable(ledger: Ledger, tuned: Tuned) -> None:
    job = evaluate(ledger, tuned.run, tuned.suite)
    assert job.state == State.RUNNING and job.done == job.total == 2 * 44
    (own,) = evaluations.of_run(ledger, tuned.run.id)
    (base,) = evaluations.counterparts(ledger, own)
    assert base.run is None and base.n == own.n == 24 and own.finished
    assert {"accuracy", "consistency", "worst_variant", "j", "abstention", "refusal", "unparsed"} <= own.scores.keys()
    by_id = {(item.item, item.variant): item for item in evaluations.items(ledger, own)}
    assert len(by_id) == 44 and max(int(str(item.detail["tokens"])) for item in by_id.values()) > 20
    assert by_id["long", 0].detail["too_long"] and by_id["long", 0].correct == 0
    assert set(by_id["q0", 1].detail["likelihood"]) == {"normal", "raised"}  # type: ignore[call-overload]
    of_tuned, of_base = ([row[1:] for row in answers(ledger)[part]] for part in (slice(44), slice(44, None)))
    assert len(of_tuned) == len(of_base) == 44 and of_tuned != of_base
    told = [event for event in events.of_run(ledger, tuned.run.id) if event.kind == "evaluation"]
    assert any("do not fit" in event.text for event in told) and any("accuracy" in event.text for event in told)
    comparison = compare(ledger, [tuned.run])
    assert {"accuracy", "consistency", "j"} <= {row.metric for row in comparison.rows if row.main}
    assert comparison.headline.startswith("tuned against its base: better")


def test_the_base_is_asked_without_the_adapter(ledger: Ledger, tuned: Tuned, tiny_base: Path) -> None:
    evaluate(ledger, tuned.run, tuned.suite)
    (base,) = evaluations.counterparts(ledger, evaluations.of_run(ledger, tuned.run.id)[0])
    known = {(item.item, item.variant): item.detail.get("likelihood") for item in evaluations.items(ledger, base)}
    asker = Asker(load_base(tuned.profile.model, CPU, trainable=False).eval(), renderer_of(tiny_base), 1)
    for batch in batches(prompts(read_suite(tuned.suite), renderer_of(tiny_base))):
        for prompt, said in zip(batch, asker.ask(batch), strict=True):
            if said.choices:
                assert known[prompt.item.id, prompt.variant] == pytest.approx(said.choices, rel=1e-5)


def test_a_second_run_reuses_the_bases_answers(ledger: Ledger, tuned: Tuned, tmp_path: Path, tiny_base: Path) -> None:
    evaluate(ledger, tuned.run, tuned.suite)
    other = add_run(ledger, tmp_path / "other", tiny_base, seed=1, name="other")
    job = evaluate(ledger, other.run, tuned.suite)
    assert job.total == 44
    assert ledger.value("SELECT count(*) FROM evaluation WHERE run IS NULL") == 1
    again = evaluate(ledger, other.run, tuned.suite)
    assert again.total == 0
    rows = compare(ledger, [tuned.run, other.run]).rows
    assert {row.against for row in rows} == {"base", "tuned"}


def test_an_interrupted_evaluation_goes_on_to_the_same_answers(
    ledger: Ledger, tuned: Tuned, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Asker.ask
    asked: list[int] = []

    def dies_in_the_third_batch(self: Asker, batch: Sequence[Prompt]) -> list[Said]:
        asked.append(len(batch))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return ask(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(Asker, "ask", dies_in_the_third_batch)
        with pytest.raises(KeyboardInterrupt):
            evaluate(ledger, tuned.run, tuned.suite)
    kept = len(answers(ledger))
    assert kept == sum(asked[:2])
    assert not any(one.finished for one in evaluations.of_run(ledger, tuned.run.id))
    assert "goes on" in compare(ledger, [tuned.run]).missing[0].why
    monkeypatch.setattr(Asker, "ask", lambda self, batch: (asked.append(len(batch)), ask(self, batch))[1])
    evaluate(ledger, tuned.run, tuned.suite)
    assert sum(asked[3:]) == 88 - kept
    gone_on = answers(ledger)
    with ledger.transaction() as connection:
        connection.execute("DELETE FROM evaluation")
    evaluate(ledger, tuned.run, tuned.suite)
    assert answers(ledger) == gone_on


def test_asked_to_stop_it_keeps_what_is_committed(ledger: Ledger, tuned: Tuned) -> None:
    stop = threading.Event()
    argument: dict[str, object] = {"runs": [tuned.run.uid], "suites": [str(tuned.suite)]}
    job = jobs.create(ledger, "evaluate", run=tuned.run.id, argument=argument, log=tuned.run.folder / "log")
    progress = evaluate_job._Progress(ledger, job, stop)
    progress.tell("asked", 3)
    stop.set()
    with pytest.raises(KeyboardInterrupt, match="goes on from the last answer"):
        progress.tell("asked", 2)
    assert jobs.get(ledger, job.uid).done == 5


def test_a_suite_of_training_rows_is_refused(ledger: Ledger, tuned: Tuned, tmp_path: Path) -> None:
    trained_on = json.loads((tuned.run.folder / "prepared" / "rows.json").read_text())["train"][0]
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    row = rows[int(trained_on.rpartition(":")[2]) - 1]
    seen = tmp_path / "seen.jsonl"
    prompt = f"{row['instruction'].upper()}\n\n {row['input']}"
    items = [{"id": "fine", "prompt": "new?"}, {"id": "known", "prompt": prompt, "answer": row["output"]}]
    seen.write_text("".join(json.dumps(item) + "\n" for item in items))
    with pytest.raises(Problem, match="1 of its 2 items are in the training rows") as problem:
        evaluate(ledger, tuned.run, seen)
    assert "known" in problem.value.why and not evaluations.of_run(ledger, tuned.run.id)


def test_a_result_that_changed_or_still_changes_is_refused(ledger: Ledger, tuned: Tuned) -> None:
    config = tuned.run.folder / "adapter" / "best" / "adapter_config.json"
    config.write_text(config.read_text().replace('"r": 4', '"r": 5'))
    with pytest.raises(Problem, match="has changed since the training"):
        evaluate(ledger, tuned.run, tuned.suite)
    with ledger.transaction() as connection:
        connection.execute("UPDATE run SET state = 'running' WHERE id = ?", (tuned.run.id,))
    with pytest.raises(Problem, match="tuned is running"):
        evaluate(ledger, tuned.run, tuned.suite)


def test_a_full_runs_model_is_loaded_apart_from_its_base(ledger: Ledger, tuned: Tuned, tiny_base: Path) -> None:
    model = load_base(tuned.profile.model, CPU, trainable=False)
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(-1)
    folder = tuned.run.folder / "model" / "best"
    model.save_pretrained(str(folder))
    (folder / "tokenizer.json").write_bytes((tiny_base / "tokenizer.json").read_bytes())
    runs.set_result(ledger, tuned.run, kind="model", path="model/best")
    runs.record(ledger, tuned.run, fingerprints={"result": folders.fingerprint(folder)})
    evaluate(ledger, runs.find(ledger, tuned.run.uid), tuned.suite)
    rows = answers(ledger)
    assert len(rows) == 88
    base = {row[1:3]: row[3] for row in rows if row[0]}
    changed = [row for row in rows if not row[0] and row[3] != base[row[1:3]]]
    assert len(changed) > 20


def test_an_adapter_scaled_to_nothing_answers_exactly_as_its_base(tuned: Tuned, tiny_base: Path) -> None:
    assert tuned.run.result is not None
    model = PeftModel.from_pretrained(
        load_base(tuned.profile.model, CPU, trainable=False), str(tuned.run.result)
    ).eval()
    renderer = renderer_of(tiny_base)
    suite = read_suite(tuned.suite)
    batch = batches([prompt for prompt in prompts(suite, renderer) if len(prompt.ids) < 200])[0]
    asker = Asker(model, renderer, 12)

    def said() -> list[tuple[str, dict[str, float], float | None]]:
        return [(one.text, dict(one.choices), one.gold_nll) for one in asker.ask(batch)]

    with model.disable_adapter():
        base = said()
    assert said() != base
    with rescale_adapter_scale(model, 0.0):
        assert said() == base


def log_probability(model: torch.nn.Module, renderer: Renderer, prompt: Prompt, answer: str) -> float:
    tokens = renderer.tokenizer.encode(answer)
    logits = torch.log_softmax(model(input_ids=torch.tensor([[*prompt.ids, *tokens]])).logits[0].float(), -1)
    return sum(float(logits[len(prompt.ids) - 1 + place, token]) for place, token in enumerate(tokens))


def test_batches_change_nothing_in_float32_and_likelihoods_are_right(tiny_base: Path, tmp_path: Path) -> None:
    profile = tiny_profile(tiny_base, tmp_path / "none.jsonl")
    model = load_base(profile.model, CPU, trainable=False).eval()
    renderer = renderer_of(tiny_base)
    asker = Asker(model, renderer, 12)
    suite: Suite = read_suite(suite_file(tmp_path / "s.jsonl"))
    asked = [prompt for prompt in prompts(suite, renderer) if len(prompt.ids) < 200]
    assert [len(prompt.ids) for prompt in asked] == sorted((len(prompt.ids) for prompt in asked), reverse=True)
    together = [one for batch in batches(asked) for one in asker.ask(batch)]
    alone = [asker.ask([prompt])[0] for prompt in asked[:10]]
    assert [one.text for one in together[:10]] == [one.text for one in alone]
    assert max(one.tokens for one in together) == 12
    for prompt, one in zip(asked[:10], together, strict=False):
        for choice in prompt.item.choices:
            naive = torch.tensor([log_probability(model, renderer, prompt, form) for form in (choice, choice.title())])
            assert one.choices[choice] == pytest.approx(float(naive.logsumexp(0)), abs=1e-4)
    wanted = [(prompt.ids, form) for prompt in asked[:6] for choice in prompt.choices for form in choice]
    assert max(len(answer) for _, answer in wanted) > 2
    together_read = read_whole(model, wanted, renderer.tokenizer.pad_id, rows=3)
    assert log_likelihoods(model, wanted, renderer.tokenizer.pad_id) == pytest.approx(together_read, abs=1e-4)
    expected = renderer.prompt([Message("user", "Is iron real?")])
    assert list(next(prompt.ids for prompt in asked if prompt.item.id == "r")) == expected
