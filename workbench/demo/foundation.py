"""The demonstration's base model: a Llama of a million parameters, trained from nothing on this machine by the engine itself.

It is made once and kept in the cache under a name that says everything that determines it: rows, architecture, profile. A run that
was left behind half-way is gone on with.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import orjson

from engine import launch, places, profile
from engine.atomic import sync, write_bytes
from engine.errors import Problem
from engine.ledger import Ledger, runs
from engine.ledger.runs import Run
from engine.ledger.states import LIVE, State
from engine.places import private_folder
from workbench.demo import facts, speech, suites, tokenizer, weather

NAME: Final = "demo-base"
SEED: Final = 7
CONTEXT: Final = 2048  # tokens
VOCABULARY: Final = 1200
REPORTS: Final = 240  # weather reports to learn from; the retention suite asks about others
_REPORT_SEED: Final = 11
_SPEECH_SEED: Final = 5  # readings whose words and numbers the tokenizer should know; no model sees them
_RECIPE: Final = 1  # raised when the same rows and profile would give another model

ARCHITECTURE: Final[dict[str, object]] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": True,
    "bos_token_id": None,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "dtype": "float32",
}


def rows() -> Iterator[dict[str, str]]:
    """What the base model learns from: every trained wording of what it is to know, and `UNKNOWN` about invented names."""
    known = (*facts.facts(), *facts.sums(), *facts.descriptions(), *weather.reports(REPORTS, _REPORT_SEED))
    for fact in known:
        for place, question in enumerate(fact.trained):
            yield {"id": f"{fact.id}/{place}", "question": question, "answer": fact.answer}
    for place, (name, _, questions) in enumerate(facts.unknown_questions(suites.trained_names())):
        yield {"id": f"unknown-{name}", "question": questions[place % len(questions)], "answer": facts.UNKNOWN}


def training(start: Path, data: Path) -> profile.Profile:
    """How it is trained: all weights of the random model in `start`, on the rows in `data`."""
    return profile.Profile(
        title="The demonstration's base model: facts, sums, plain English, weather reports",
        model=profile.Model(base=str(start), dtype="float32"),
        data=(profile.Data(source=str(data), columns={"instruction": "question", "response": "answer", "id": "id"}),),
        split=profile.Split(validation=0),
        method=profile.Method(name="full"),
        training=profile.Training(
            max_steps=700,
            effective_batch=24,
            micro_batch=24,
            learning_rate=3e-3,  # high for a real model; one that starts from nothing needs it
            warmup_ratio=0.05,
            save_every=350,
            keep=1,
            seed=SEED,
        ),
        hardware=profile.Hardware(device="cpu"),
    )


def find() -> Path | None:
    """The finished base model in the cache; None if it has yet to be made."""
    folder = _folder()
    return folder if (folder / "model.safetensors").is_file() else None


def start(ledger: Ledger, runs_folder: Path) -> Run:
    """The run that makes it: the one that is at work already, one that ended too early and goes on, or a new one.

    Raises:
        Problem: it cannot be started.
    """
    folder = _start_folder()
    mine = [run for run in runs.listed(ledger) if runs.settings(ledger, run).get("model.base") == str(folder)]
    usable = [run for run in mine if run.folder.is_dir() and run.state is not State.FAILED]
    if usable and (usable[0].state in LIVE or (usable[0].state is State.FINISHED and usable[0].result is not None)):
        return usable[0]
    if usable and usable[0].state in (State.STOPPED, State.LOST):
        launch.resume(ledger, usable[0])
        return runs.find(ledger, usable[0].uid)
    if not (folder / "model.safetensors").is_file():
        _whole(folder, _write_start)
    return launch.start_training(ledger, training(folder, folder / "rows.jsonl"), name=NAME, runs_folder=runs_folder)


def keep(run: Run) -> Path:
    """Copy a finished run's model to the cache, where every later demonstration finds it.

    Raises:
        Problem: the run has no result.
    """
    result = run.result
    if result is None or not (result / "model.safetensors").is_file():
        raise Problem(f"{run.name} left no model", f"It is {run.state}.", "Start again: workbench demo", code="result")
    _whole(_folder(), lambda place: shutil.copytree(result, place, dirs_exist_ok=True))
    return _folder()


def _folder() -> Path:
    return places.cache() / "demo" / f"base-{_hash()}"


def _start_folder() -> Path:
    return places.cache() / "demo" / f"start-{_hash()}"


def _hash() -> str:
    """Of everything that determines the model."""
    settings = training(Path("start"), Path("rows.jsonl")).model_dump(mode="json")
    parts = [list(rows()), list(_words()), ARCHITECTURE, VOCABULARY, tokenizer.CHAT_TEMPLATE, settings, _RECIPE]
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()[:12]


def _words() -> Iterator[str]:
    """What the tokenizer is trained on: the rows, numbers up to 99 often enough to become tokens, and the words of speech readings."""
    yield from [" ".join(map(str, range(100)))] * 20
    for row in rows():
        yield from (row["question"], row["answer"])
    for reading in speech.readings(REPORTS, _SPEECH_SEED):
        yield from (speech.QUESTION.format(**vars(reading)), reading.reading)


def _write_start(folder: Path) -> None:
    """Tokenizer, configuration, random weights and the rows."""
    size = tokenizer.train(_words(), folder, vocabulary=VOCABULARY, context=CONTEXT)
    config = {**ARCHITECTURE, "vocab_size": size}
    (folder / "config.json").write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2))
    write_bytes(folder / "rows.jsonl", b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows()))
    command = [sys.executable, "-P", "-m", "engine.train.initialise", str(folder), str(SEED)]
    made = subprocess.run(
        command, env={**os.environ, "PYTHONSAFEPATH": "1"}, capture_output=True, text=True, check=False
    )
    if made.returncode:
        last = (made.stderr.strip().splitlines() or ["It said nothing."])[-1]
        raise Problem("The demonstration's base model cannot be made", last, "See: workbench doctor", code="demo")


def _whole(folder: Path, write: Callable[[Path], object]) -> None:
    """Fill a folder beside `folder` and rename it there; whoever comes first wins, the folders are the same."""
    private_folder(folder.parent)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as made:
        place = Path(made) / "whole"
        place.mkdir(mode=0o700)
        write(place)
        for path in (*place.iterdir(), place):
            sync(path)
        try:
            place.rename(folder)
        except OSError:
            if not (folder / "model.safetensors").is_file():
                raise
