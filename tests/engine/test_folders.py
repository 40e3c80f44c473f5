"""Folders that are whole or not there, and which checkpoints are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from engine import folders
from engine.errors import Problem
from engine.train import checkpoint


def write(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "file").write_text(text) and None


def test_a_failed_write_leaves_what_stood_there(tmp_path: Path) -> None:
    folder = tmp_path / "best"
    folders.publish(folder, write("first"))

    def fail(_: Path) -> None:
        raise OSError("no")

    with pytest.raises(OSError):
        folders.publish(folder, fail)
    with pytest.raises(Problem):
        folders.publish(folder, write("second"), before_rename=lambda: (_ for _ in ()).throw(Problem("no")))
    assert (folder / "file").read_text() == "first" and not folders.damage(folder)
    assert list(tmp_path.iterdir()) == [folder]
    assert folders.fingerprint(folder) == folders.published_fingerprint(folder)
    assert {path.stat().st_mode & 0o77 for path in [folder, *folder.iterdir()]} == {0}


def test_what_a_dead_process_left_is_put_right(tmp_path: Path) -> None:
    folders.publish(tmp_path / "best", write("first"))
    (tmp_path / "best").rename(tmp_path / ".best.old")  # it died between the two renames
    (tmp_path / ".step-000003.new").mkdir()
    folders.tidy(tmp_path)
    assert (tmp_path / "best" / "file").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / "file").write_text("other"),
        lambda folder: (folder / "file").write_text("shortened"[:3]),
        lambda folder: (folder / "file").unlink(),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text('{"version": 1'),
    ],
)
def test_damage_of_every_kind_is_seen(tmp_path: Path, harm: Callable[[Path], object]) -> None:
    for step in (3, 6):
        folders.publish(tmp_path / checkpoint.name(step), write("whole"))
    harm(tmp_path / checkpoint.name(6))
    found = checkpoint.newest(tmp_path)
    assert found.path == tmp_path / checkpoint.name(3)
    assert list(found.damaged) == [tmp_path / checkpoint.name(6)]
    assert checkpoint.put_aside(tmp_path / checkpoint.name(6)).is_dir()
    assert checkpoint.newest(tmp_path) == checkpoint.Found(tmp_path / checkpoint.name(3), {})


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    forgotten: list[int] = []
    for step in (3, 6, 9, 12, 1_000_000):
        folders.publish(tmp_path / checkpoint.name(step), write("whole"))
    checkpoint.prune(tmp_path, keep=2, best_step=6, forget=forgotten.append)
    assert forgotten == [3, 9]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000006", "step-000012", "step-1000000"]
