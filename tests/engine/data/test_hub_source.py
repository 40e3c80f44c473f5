"""Hub data sets: told apart from files, loaded by the real library in a process of their own, and kept as a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from engine import profile
from engine.data.hub_source import copy_path, download_apart, is_hub_id, local_copy
from engine.data.sources import open_source, rows
from engine.errors import Problem
from tests.tiny import write_rows


@pytest.mark.parametrize(
    ("source", "hub"),
    [
        ("qiaojin/PubMedQA", True),
        ("HuggingFaceH4/ultrachat_200k", True),
        ("data/rows.jsonl", False),
        ("./data/rows", False),
        ("/data/rows", False),
        ("rows", False),
        ("a/b/c", False),
    ],
)
def test_what_looks_like_a_hub_id(source: str, hub: bool) -> None:
    assert is_hub_id(source) == hub


def test_a_folder_of_that_name_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert not is_hub_id("owner/name")


def test_loaded_by_the_library_apart_and_opened_as_a_file(tmp_path: Path) -> None:
    """`datasets` loads a local folder exactly as it loads a repository, so the whole way is real but for the network."""
    write_rows(tmp_path / "set" / "train.jsonl", 12)
    data = profile.Data(source=str(tmp_path / "set"))
    assert download_apart(data, quiet=True) == copy_path(data)
    copied = open_source(profile.Data(source=str(local_copy(data))))
    assert [row.values["label"] for row in rows(copied)][:4] == ["raised", "normal", "normal", "raised"]
    assert len(copied) == 12
    assert not list(copy_path(data).parent.glob("*.part"))


def test_what_the_hub_does_not_have_is_a_problem_of_the_caller() -> None:
    with pytest.raises(Problem, match="somebody/no-such-data") as caught:
        download_apart(profile.Data(source="somebody/no-such-data"), quiet=True)
    assert caught.value.code in ("data", "network")


def test_looking_at_data_imports_no_engine_room(tmp_path: Path) -> None:
    """Nothing that screens import may load torch or what needs it."""
    look = (
        "import sys; import engine.data.prepare, engine.data.report, engine.data.hub_source, engine.data.pieces; "
        "print([name for name in ('torch', 'transformers', 'datasets', 'peft', 'polars', 'scipy', 'huggingface_hub') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
