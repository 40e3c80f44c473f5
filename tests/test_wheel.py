"""The wheel: what a user installs holds the three floors and the profiles, and finds them."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import engine
from engine.places import shipped

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without the network and unpacked as pip would."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-build-isolation",
        "--no-deps",
        "--quiet",
        "-w",
        str(folder),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_wheel_holds_the_three_floors_and_nothing_else(unpacked: Path) -> None:
    folders = {path.name for path in unpacked.iterdir()}
    assert folders == {"workbench", "screens", "engine", f"finetune_workbench-{engine.__version__}.dist-info"}
    for floor in ("workbench", "screens", "engine"):
        ours = {path.relative_to(ROOT) for path in (ROOT / floor).rglob("*.py")}
        theirs = {path.relative_to(unpacked) for path in (unpacked / floor).rglob("*.py")}
        assert ours <= theirs


def test_wheel_finds_the_profiles_that_ship_with_it(unpacked: Path, tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", "from engine.places import shipped; print(shipped())"],
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    place = Path(told.stdout.strip())
    assert place.is_relative_to(unpacked)
    assert _files(place) == _files(ROOT / "profiles")


def test_checkout_finds_its_own_profiles() -> None:
    assert shipped() == ROOT / "profiles"
    assert any(shipped().rglob("*.toml"))


def _files(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
