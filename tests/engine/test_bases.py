"""Models to begin from: what is in the cache, below a folder, left by runs, and known without being here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from engine.bases import Base, bases, kind_of
from engine.fit.shapes import shipped_models
from engine.ledger import Ledger, runs
from tests.tiny import tiny_profile, write_rows


def named(found: tuple[Base, ...], name: str) -> Base:
    (base,) = [each for each in found if each.name == name]
    return base


@pytest.fixture
def cache(tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache with one whole model and one of which the weights are missing."""
    hub = tmp_path / "hub"
    for name, whole in (("org--whole", True), ("org--partly", False)):
        snapshot = hub / f"models--{name}" / "snapshots" / "abc"
        (hub / f"models--{name}" / "refs").mkdir(parents=True)
        (hub / f"models--{name}" / "refs" / "main").write_text("abc")
        shutil.copytree(tiny_base, snapshot)
        if not whole:
            (snapshot / "model.safetensors").unlink()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(hub), raising=False)
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", str(hub), raising=False)
    return hub


def test_the_cache_says_what_is_whole(cache: Path, ledger: Ledger, tmp_path: Path) -> None:
    found = bases(ledger, tmp_path / "nowhere")
    whole, partly = named(found, "org/whole"), named(found, "org/partly")
    assert (whole.where, whole.here, whole.family, whole.kind, whole.chat) == ("cached", True, "llama", "dense", True)
    assert whole.parameters and whole.bytes and whole.bytes > 4 * whole.parameters  # float32 and a header
    assert (partly.where, partly.here) == ("partly", False)


def test_folders_that_hold_weights_are_bases_and_adapters_are_not(
    ledger: Ledger, tiny_base: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_base, tmp_path / "models" / "mine")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "config.json").write_text("{}")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("[")
    found = bases(ledger, tmp_path)
    assert [base.name for base in found if base.where == "folder"] == [str(tmp_path / "models" / "mine")]
    (tmp_path / "models" / "mine" / "model.safetensors").write_bytes(b"\xff" * 20)
    assert named(bases(ledger, tmp_path), str(tmp_path / "models" / "mine")).parameters is None


def test_results_of_runs_are_bases(ledger: Ledger, tiny_base: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", 4)
    from engine.profile import flat
    from engine.profile_file import dump

    profile = tiny_profile(tiny_base, rows)
    for name in ("done", "young"):
        runs.create(
            ledger, name=name, runs_folder=tmp_path / "runs", profile=dump(profile), settings=flat(profile), steps=1
        )
    run = runs.find(ledger, "done")
    with ledger.transaction() as connection:
        connection.execute("UPDATE run SET result_kind = 'adapter', result_path = 'adapter' WHERE id = ?", (run.id,))
    assert not [
        base for base in bases(ledger, tmp_path / "nowhere") if base.where == "run"
    ]  # its result is not on this machine
    (run.folder / "adapter").mkdir(parents=True)
    found = [base for base in bases(ledger, tmp_path / "nowhere") if base.where == "run"]
    assert [(base.name, base.here) for base in found] == [("run:done", True)]
    assert "adapter" in found[0].about


def test_known_models_are_offered_with_what_they_are(ledger: Ledger, tmp_path: Path) -> None:
    found = bases(ledger, tmp_path)
    assert {name for model in shipped_models() for name in model.ids} <= {base.name for base in found}
    llama = named(found, "meta-llama/Llama-3.2-1B")
    assert (llama.where, llama.gated, llama.here, llama.context) == ("hub", True, False, 131_072)
    assert named(found, "Qwen/Qwen3-4B").parameters == 4_022_468_096


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"model_type": "llama"}, "dense"),
        ({"model_type": "qwen3_moe", "num_experts": 128}, "experts"),
        ({"model_type": "mixtral", "num_local_experts": 8}, "experts"),
        ({"model_type": "gemma3", "text_config": {"layer_types": ["sliding_attention", "full_attention"]}}, "dense"),
        ({"model_type": "x", "text_config": {"num_experts": 512, "layer_types": ["linear_attention", "full_attention"]}}, "experts + hybrid"),
        ({"model_type": "falcon_mamba"}, "hybrid"),
        ({"model_type": "x", "num_experts": None, "layer_types": "full"}, "dense"),
    ],
)  # fmt: skip
def test_what_a_model_is_made_of_is_told_from_its_configuration(config: dict[str, object], kind: str) -> None:
    assert kind_of(json.loads(json.dumps(config))) == kind
