"""Files are the old one or the new one, never half of either."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from engine import atomic
from engine.errors import Problem


def test_new_file_is_private_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "settings.toml"
    atomic.write_text(target, "früh")
    assert target.read_text(encoding="utf-8") == "früh"
    assert target.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [target]


def test_link_is_followed(tmp_path: Path) -> None:
    kept = tmp_path / "dotfiles.toml"
    kept.write_text("old")
    link = tmp_path / "settings.toml"
    link.symlink_to(kept)
    atomic.write_text(link, "new")
    assert link.is_symlink()
    assert kept.read_text() == "new"


def test_full_disk_leaves_the_old_file_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "settings.toml"
    atomic.write_text(target, "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Problem, match=r"settings\.toml cannot be written") as caught:
        atomic.write_text(target, "new")
    assert "No space left" in caught.value.why
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_missing_folder_is_a_problem_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"gone/report cannot be written[\s\S]*Make the folder first"):
        atomic.write_bytes(tmp_path / "gone" / "report", b"")
