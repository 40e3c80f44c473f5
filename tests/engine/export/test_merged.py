"""A merged model says what its adapter says, or is not there at all."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine import folders, launch
from engine.data import prepare
from engine.errors import Problem
from engine.export import job as export
from engine.export import merge
from engine.ledger import artifacts, events, jobs, runs
from engine.ledger.runs import Run
from engine.ledger.states import State
from engine.train import checkpoint, fingerprints, model, result
from tests.engine.train.conftest import Bench
from tests.models import FAMILIES, Family, make
from tests.tiny import make_llama
from workbench.cli import main

CPU = torch.device("cpu")


def tuned(bench: Bench, scale: float = 0.05, **settings: object) -> Run:
    """A run as training leaves it, its trained weights drawn at random: an adapter that moves the base's logits."""
    resolved = bench.profile(**{"method.dropout": 0.0, **settings})
    run = bench.run(resolved)
    prepare.prepare(resolved, run.folder)
    torch.manual_seed(3)  # before loading, which draws the adapter's first weights
    loaded = model.load(resolved, CPU, vocabulary=400)
    with torch.no_grad():
        for weight in checkpoint.trained(loaded.model).values():
            weight.add_(scale * torch.randn_like(weight))
    kind = result.kind(resolved.method)
    result.write(run.folder / kind / "best", loaded, resolved.model)
    runs.set_result(bench.ledger, run, kind=kind, path=f"{kind}/best")
    found = {
        "base": fingerprints.of_base(Path(resolved.model.base)),
        "result": folders.fingerprint(run.folder / kind / "best"),
    }
    runs.record(bench.ledger, run, fingerprints=found)
    done = jobs.sign_in(bench.ledger, bench.job(run), pid=os.getpid())
    jobs.set_state(bench.ledger, done, State.FINISHED)
    return runs.find(bench.ledger, run.uid)


def exported(bench: Bench, run: Run, out: Path) -> dict[str, dict[str, object]]:
    """The checks of an export done in this process, by name."""
    made = jobs.create(
        bench.ledger,
        "export",
        run=run.id,
        argument={"format": "merged", "out": str(out)},
        log=run.folder / "export.txt",
    )
    export.run(bench.ledger, jobs.sign_in(bench.ledger, made, pid=os.getpid()))
    detail = events.of_kind(bench.ledger, run.id, "export")[-1].detail
    assert detail["path"] == str(out)
    checks = detail["checks"]
    assert isinstance(checks, list)
    return {check["name"]: check for check in checks}


def tied(bench: Bench, folder: Path, dtype: torch.dtype = torch.float32) -> Bench:
    """The bench with a base whose head is its embedding, with more rows than the tokenizer has tokens, in a type of its own."""
    make_llama(folder)
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    rows = torch.cat(
        [weights["model.embed_tokens.weight"], 0.05 * torch.randn(64, 64, generator=torch.Generator().manual_seed(2))]
    )
    weights["model.embed_tokens.weight"] = rows
    save_file(
        {name: weight.to(dtype) for name, weight in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    config = json.loads((folder / "config.json").read_text())
    changed = {"tie_word_embeddings": True, "vocab_size": len(rows), "dtype": str(dtype).removeprefix("torch.")}
    (folder / "config.json").write_text(json.dumps({**config, **changed}))
    return Bench(bench.ledger, folder, bench.data, bench.folder)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"method.dora": True, "method.rslora": True},
        {"method.name": "ia3"},
        {"method.modules_to_save": ("embed_tokens", "lm_head")},
        {"model.quantization": "nf4"},
    ],
    ids=["lora", "dora", "ia3", "modules to save", "nf4"],
)
def test_the_merge_does_not_lose_the_tune(bench: Bench, tmp_path: Path, settings: dict[str, object]) -> None:
    # peft#2321; the run's base may have been in 4 bits, what is merged into never is
    run = tuned(bench, **settings)
    checks = exported(bench, run, tmp_path / "out")
    assert all(check["ok"] for check in checks.values())
    assert float(str(checks["logits"]["found"])) < 1e-5 < 1e-2 < float(str(checks["tune"]["allowed"]))
    there = {path.name for path in (tmp_path / "out").iterdir()}
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
        "generation_config.json",
    } <= there
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "quantization_config" not in config and config["dtype"] == "float32"
    alone = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert alone(**tokenizer("jitter", return_tensors="pt")).logits.isfinite().all()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_architecture_merges(bench: Bench, tmp_path: Path, family: Family) -> None:
    base = make(family, tmp_path / family)
    run = tuned(Bench(bench.ledger, base, bench.data, bench.folder), **{"model.attention": "auto"})
    assert all(check["ok"] for check in exported(bench, run, tmp_path / "out").values())


@pytest.mark.parametrize("targets", [("q_proj", "lm_head"), "all-linear"], ids=str)
def test_a_head_that_is_the_embedding_is_merged_alone(bench: Bench, tmp_path: Path, targets: object) -> None:
    run = tuned(tied(bench, tmp_path / "tied"), **{"method.targets": targets})
    checks = exported(bench, run, tmp_path / "out")
    assert all(check["ok"] for check in checks.values())
    written = load_file(tmp_path / "out" / "model.safetensors")
    before = load_file(tmp_path / "tied" / "model.safetensors")
    assert torch.equal(written["model.embed_tokens.weight"], before["model.embed_tokens.weight"])
    assert ("lm_head.weight" in written) == ("lm_head" in targets)
    assert written["model.embed_tokens.weight"].shape[0] == 576  # more than the tokenizer's, and kept


def test_sums_are_rounded_once_to_the_base_s_own_type(bench: Bench, tmp_path: Path) -> None:
    run = tuned(tied(bench, tmp_path / "half", torch.bfloat16), **{"model.dtype": "float32"})
    checks = exported(bench, run, tmp_path / "out")
    assert all(check["ok"] for check in checks.values())
    assert run.result is not None
    name = "layers.0.self_attn.q_proj"
    written = load_file(tmp_path / "out" / "model.safetensors")[f"model.{name}.weight"]
    base = load_file(tmp_path / "half" / "model.safetensors")[f"model.{name}.weight"]
    adapter = load_file(run.result / "adapter_model.safetensors")
    low, high = (adapter[f"base_model.model.model.{name}.lora_{part}.weight"] for part in "AB")
    assert written.dtype == torch.bfloat16
    assert torch.equal(written, (base.float() + high @ low * (8 / 4)).bfloat16())


def test_a_merge_that_says_something_else_is_not_kept(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tuned(bench)
    monkeypatch.setattr(merge, "_merge", lambda module: None)  # a merge that forgets the adapter
    with pytest.raises(Problem) as raised:
        exported(bench, run, tmp_path / "out")
    assert raised.value.code == "differs"
    assert "Logits differ by" in raised.value.why and "is allowed in float32" in raised.value.why
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_what_is_smaller_than_the_rounding_is_said_to_be_lost(bench: Bench, tmp_path: Path) -> None:
    run = tuned(tied(bench, tmp_path / "half", torch.bfloat16), scale=2e-5, **{"model.dtype": "float32"})
    with pytest.raises(Problem, match="does not say what the adapter says") as raised:
        exported(bench, run, tmp_path / "out")
    assert "The tune moves logits by" in raised.value.why


def test_a_base_that_changed_or_is_gone_is_not_merged_into(bench: Bench, tmp_path: Path) -> None:
    base = shutil.copytree(bench.base, tmp_path / "base")
    run = tuned(Bench(bench.ledger, base, bench.data, bench.folder))
    shutil.copy(make_llama(tmp_path / "other", seed=3) / "model.safetensors", base)
    with pytest.raises(Problem, match="has changed since run was trained"):
        exported(bench, run, tmp_path / "out")
    shutil.rmtree(base)
    with pytest.raises(Problem):
        exported(bench, run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_disk_is_asked_first(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tuned(bench)
    monkeypatch.setattr(export, "free_bytes", lambda _: 1000)
    with pytest.raises(Problem, match=r"The export needs 0\.00 GB") as raised:
        exported(bench, run, tmp_path / "out")
    assert raised.value.code == "disk"


def test_virtual_tokens_have_nothing_to_merge(bench: Bench) -> None:
    run = tuned(bench, **{"method.name": "prompt_tuning", "method.virtual_tokens": 4})
    with pytest.raises(Problem, match="which no weight of a model can hold") as raised:
        launch.start_export(bench.ledger, run)
    assert "PeftModel.from_pretrained" in raised.value.do


def test_a_folder_with_something_in_it_is_left_alone(bench: Bench, tmp_path: Path) -> None:
    run = tuned(bench)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("three years")
    with pytest.raises(Problem, match="is there already"):
        launch.start_export(bench.ledger, run, tmp_path / "mine")


def test_a_full_run_s_model_is_copied(bench: Bench, tmp_path: Path) -> None:
    run = tuned(bench, **{"method.name": "full"})
    checks = exported(bench, run, tmp_path / "out")
    assert checks["files"]["ok"]
    assert run.result is not None
    assert folders.fingerprint(tmp_path / "out") == folders.fingerprint(run.result)
    result, export = (artifacts.of_run(bench.ledger, run.id)[place] for place in (0, -1))
    assert (export.kind, export.path) == ("export", str(tmp_path / "out"))
    assert (export.bytes, export.fingerprint) == (result.bytes, result.fingerprint)


def test_an_export_that_is_stopped_leaves_nothing(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tuned(bench)
    monkeypatch.setattr(export._Telling, "counting", _stopping_at("asking the merged model", export._Telling.counting))
    with pytest.raises(KeyboardInterrupt, match="Nothing was left behind"):
        exported(bench, run, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def _stopping_at(moment: str, counting: object) -> object:
    def call(self: export._Telling, doing: str, total: int) -> object:
        if doing == moment:
            os.kill(os.getpid(), 15)
        return counting(self, doing, total)  # type: ignore[operator]

    return call


def test_the_command_says_path_and_checks(bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tuned(bench)
    out = tmp_path / "out"
    code = main(
        ["--ledger", str(bench.ledger.path), "export", run.name, "--format", "merged", "--out", str(out), "--json"]
    )
    said = capsys.readouterr()
    assert code == 0, said.err
    found = json.loads(said.out)
    assert found["path"] == str(out) and out.is_dir()
    assert [check["name"] for check in found["checks"]] == ["logits", "tune", "text"]
