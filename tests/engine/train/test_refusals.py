"""A run is gone on from as what it was: another profile, another machine and other data are told apart, and said or refused."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from engine import profile_file
from engine.ledger import events
from engine.ledger.runs import Run
from engine.ledger.states import State
from engine.train import checkpoint
from tests.engine.train.conftest import Bench, result_bytes

BRIEF = {"training.evaluate_every": 100, "training.epochs": 1, "split.validation": 0}  # 8 steps


def killed(bench: Bench, name: str, **settings: object) -> Run:
    """A run that died behind step 4, with a checkpoint of step 3."""
    run = bench.run(bench.profile(**BRIEF, **settings), name)
    bench.train(run, prepare=bench.at_step(run, {4: "SIGKILL"}))
    assert checkpoint.newest(run.folder / "checkpoints").path == run.folder / "checkpoints" / "step-000003"
    return run


def edit(bench: Bench, run: Run, key: str, value: str) -> None:
    """Another value in the ledger's profile."""
    [(text,)] = bench.ledger.rows("SELECT profile FROM run_document WHERE run = ?", (run.id,))
    changed, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", str(text))
    assert count == 1
    with bench.ledger.transaction() as connection:
        connection.execute("UPDATE run_document SET profile = ? WHERE run = ?", (changed, run.id))


def told(bench: Bench, run: Run, kind: str) -> list[str]:
    return [event.text for event in events.of_run(bench.ledger, run.id) if event.kind == kind]


# unsloth#2802: a resume that quietly takes other settings. transformers#34053: the rate jumps because the steps are others.
def test_resuming_never_takes_other_settings_than_the_run_began_with(bench: Bench) -> None:
    run = killed(bench, "edited")
    began = profile_file.dump(bench.profile(**BRIEF))
    written = run.folder / "profile.toml"
    written.write_text(
        began.replace("epochs = 1", "epochs = 4").replace("learning_rate = 0.001", "learning_rate = 0.01")
    )
    refused = bench.train(run)
    assert (refused.state, refused.cause) == (State.FAILED, "changed")
    assert "training.epochs: 1.0 became 4.0; training.learning_rate: 0.001 became 0.01" in refused.message
    written.unlink()
    edit(bench, run, "learning_rate", "0.01")
    refused = bench.train(run)
    assert (refused.state, refused.cause) == (State.FAILED, "changed")
    assert "training.learning_rate: 0.001 became 0.01" in refused.message
    edit(bench, run, "learning_rate", "0.001")
    written.write_text(began.replace("keep = 2", "keep = 5").replace('title = ""', 'title = "another"'))
    assert bench.train(run).state is State.FINISHED
    whole = bench.trained("whole", **BRIEF)
    assert bench.story(run) == bench.story(whole) and result_bytes(run) == result_bytes(whole)
    assert len(list((run.folder / "checkpoints").glob("step-*"))) == 3  # steps 3, 6 and 8: keep is what the file says
    assert not told(bench, run, "identity")


def test_another_number_of_processes_is_refused_and_another_micro_batch_is_said(bench: Bench) -> None:
    run = killed(bench, "ranks")
    state = run.folder / "checkpoints" / "step-000003" / "state.json"
    whole = state.read_text()
    reseal(state, whole.replace('"ranks": 1', '"ranks": 2'))
    refused = bench.train(run)
    assert (refused.state, refused.cause) == (
        State.FAILED,
        "changed",
    ) and "by 2 processes, now there is 1" in refused.message
    other = re.sub(r'"torch": "[^"]*"', '"torch": "1.0"', whole).replace('"threads": 1', '"threads": 7')
    reseal(state, other.replace('"rows": "padded"', '"rows": "packed"'))
    edit(bench, run, "micro_batch", "1")
    assert bench.train(run).state is State.FINISHED
    [said] = told(bench, run, "identity")
    assert "training.micro_batch 2 became 1" in said and "torch 1.0 became" in said and "threads 7 became 1" in said
    assert "rows packed became padded" in said  # the leak test of another version may end otherwise


def reseal(path: Path, text: str) -> None:
    """Other words in a checkpoint, with a manifest that holds them for true."""
    from engine import folders

    path.write_text(text)
    (path.parent / folders.MANIFEST).unlink()
    folders._seal(path.parent)


# transformers#35782, #35525: killed while saving, and the resume dies on the broken checkpoint instead of taking the one before.
def test_a_checkpoint_that_is_not_whole_is_never_taken(bench: Bench) -> None:
    run = bench.run(bench.profile(**BRIEF), "harmed")
    bench.train(run, prepare=bench.at_step(run, {7: "SIGKILL"}))

    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[-7] ^= 4
        path.write_bytes(content)

    harms: dict[str, Callable[[Path], object]] = {
        "truncated": lambda folder: os.truncate(folder / "optimizer.safetensors", 1000),
        "bit-flipped": lambda folder: flip(folder / "optimizer.safetensors"),
        "missing file": lambda folder: (folder / "generators.safetensors").unlink(),
        "missing manifest": lambda folder: (folder / "manifest.json").unlink(),
    }
    for harm, do in harms.items():
        copy = shutil.copytree(run.folder / "checkpoints", bench.folder / harm)
        assert checkpoint.newest(copy) == checkpoint.Found(copy / "step-000006", {})
        do(copy / "step-000006")
        found = checkpoint.newest(copy)
        assert found.path == copy / "step-000003" and list(found.damaged) == [copy / "step-000006"], harm
