"""The rules between the floors: imports point down, nothing that people see loads torch, the base install works without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import make_tokenizer, write_rows

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "transformers", "peft", "datasets", "accelerate", "bitsandbytes")

IMPORT_WHAT_PEOPLE_SEE = """
import importlib, json, pkgutil, sys
import screens, workbench
names = [found.name for package in (workbench, screens) for found in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(json.dumps([names, sorted(set(sys.modules) & set(sys.argv[1:]))]))
"""

IMPORT_LIGHT_ENGINE = """
import importlib, json, pkgutil, sys
import engine.ledger, engine.data, engine.fit
names = [found.name for package in (engine.ledger, engine.data, engine.fit)
         for found in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
         if not found.name.startswith("engine.fit.simulation.")]
for name in names + ["engine.jobs", "engine.launch", "engine.resolve", "engine.gpu", "engine.profile_file", "engine.evaluate.compare"]:
    importlib.import_module(name)
print(json.dumps([names, sorted(set(sys.modules) & set(sys.argv[1:]))]))
"""


def test_contracts_hold() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "code", [IMPORT_WHAT_PEOPLE_SEE, IMPORT_LIGHT_ENGINE], ids=["screens and commands", "ledger, data, fit"]
)
def test_torch_is_not_loaded_even_indirectly(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, check=True)
    imported, loaded = json.loads(done.stdout.splitlines()[-1])
    assert len(imported) > 10
    assert loaded == []


@pytest.fixture(scope="module")
def base_install(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python in which the base install is, and nothing that the extra `engine` brings."""
    folder = tmp_path_factory.mktemp("base-install") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (ours,) = folder.glob("lib/python*/site-packages")
    for entry in Path(pytest.__file__).parents[1].iterdir():
        if not entry.name.split("-")[0].lower().startswith((*HEAVY, "functorch")):
            (ours / entry.name).symlink_to(entry)
    python = folder / "bin" / "python"
    gone = subprocess.run([python, "-c", "import torch"], capture_output=True, text=True, check=False)
    assert "No module named 'torch'" in gone.stderr
    return python


def in_base(python: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`workbench WORDS` without torch."""
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [python, "-m", "workbench", *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_laptop_looks_at_data_and_at_a_ledger_without_torch(base_install: Path, tmp_path: Path) -> None:
    listed = in_base(base_install, "runs", "list", "--json", cwd=tmp_path)
    assert (listed.returncode, json.loads(listed.stdout)) == (0, [])
    rows = write_rows(tmp_path / "rows.jsonl", 12)
    report = in_base(base_install, "data", str(rows), "--json", cwd=tmp_path)
    assert report.returncode in (0, 1), report.stderr
    assert json.loads(report.stdout)["rows"] == 12


def test_without_torch_train_says_what_to_install(base_install: Path, tmp_path: Path) -> None:
    make_tokenizer(tmp_path / "base")
    (tmp_path / "p.toml").write_text('[model]\nbase = "base"\n[[data]]\nsource = "rows.jsonl"\n')
    write_rows(tmp_path / "rows.jsonl", 12)
    done = in_base(base_install, "train", "p.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert 'pip install "finetune-workbench[engine]"' in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(in_base(base_install, "runs", "list", "--json", cwd=tmp_path).stdout) == []
