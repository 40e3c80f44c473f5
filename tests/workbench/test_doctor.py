"""The doctor finds what is wrong and leaves alone what is well."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from engine import gpu
from engine.fit import context
from engine.ledger import Ledger, runs
from engine.storage import Storage
from workbench import cli
from workbench.checks import gpus, libraries, session, storage


def test_doctor_as_json_names_libraries_places_and_torch(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["doctor", "--json"])
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert code == int(not all(check["ok"] for check in checks))
    assert all(set(check) == {"name", "ok", "found", "advice"} for check in checks)
    assert all(check["ok"] or check["advice"] for check in checks)
    by_name = {check["name"]: check for check in checks}
    assert len(by_name) == len(checks)
    assert by_name["textual"]["ok"]
    assert by_name["torch on gpu"]["found"].startswith("2.")  # a child process said so
    assert str(ledger.path) in by_name["ledger"]["found"]
    assert {"python", "torch", "sqlite", "ledger disk", "runs disk", "logout", "locale", "open files", "clock"} <= set(
        by_name
    )


def test_a_missing_and_an_old_library_are_found() -> None:
    missing = libraries.check_library(Requirement("torch-that-is-not-there"), "engine")
    assert not missing.ok
    assert missing.advice == 'pip install "finetune-workbench[engine]"'
    old = libraries.check_library(Requirement("numpy>=99"), "")
    assert (old.ok, "needed is >=99" in old.found) == (False, True)


@pytest.mark.parametrize(("version", "told"), [((3, 40, 1), True), ((3, 51, 2), True), ((3, 51, 3), False)])
def test_sqlite_with_the_wal_bug_is_told(version: tuple[int, int, int], told: bool) -> None:
    assert ("WAL-reset bug" in libraries.check_sqlite(version).found) is told


@pytest.mark.parametrize(
    ("torch", "ok", "advice"),
    [
        (gpus.Torch("2.13.0", "13.0", ("H200",), True), True, ""),
        (gpus.Torch("2.13.0", None), False, "Install the build for CUDA"),
        (
            gpus.Torch("2.13.0", "13.0", told="driver too old"),
            False,
            "Update the NVIDIA driver to one that supports CUDA 13.0",
        ),
        (gpus.Torch(told="ImportError: libcudnn"), False, "Install it again"),
    ],
)
def test_a_gpu_that_torch_cannot_use_is_found(torch: gpus.Torch, ok: bool, advice: str) -> None:
    check = gpus.check_torch(torch, gpu_count=1)
    assert check.ok is ok
    assert check.advice.startswith(advice)
    assert torch.told in check.found


def test_a_gpu_filled_by_somebody_else_is_found() -> None:
    one = gpu.Gpu("GPU-1", 0, "RTX 4090", total_mib=24564, used_mib=20000, free_mib=4564, mine_mib=0, others_mib=20000)
    assert not gpus.check_gpu(one).ok
    assert gpus.check_gpu(gpu.Gpu("GPU-1", 0, "RTX 4090", total_mib=24564, free_mib=24000, others_mib=0)).ok


def test_what_cuda_holds_of_a_gpu_is_measured_and_kept(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = gpu.Gpu("GPU-1", 0, "RTX 4090", driver="580.95.05")
    monkeypatch.setattr(context, "MEASURE", (sys.executable, "-c", 'print(\'{"problem": "Others use the GPU."}\')'))
    failed = gpus.check_context(one, ledger.path)
    assert (failed.ok, "Others use the GPU." in failed.found, bool(failed.advice)) == (False, True, True)
    told = 'print(\'{"mib": 411.5, "workspace_mib": 16.25}\')'
    monkeypatch.setattr(context, "MEASURE", (sys.executable, "-c", told))
    assert gpus.check_context(one, tmp_path / "none.db").ok and not (tmp_path / "none.db").exists()
    assert "CUDA holds 412 MiB" in gpus.check_context(one, ledger.path).found
    monkeypatch.setattr(context, "MEASURE", ("false",))
    assert gpus.check_context(one, ledger.path).ok, "it is not measured again"


@pytest.mark.parametrize(
    ("name", "kind", "free", "ok"),
    [
        ("ledger disk", "nfs4", 1 << 40, False),
        ("runs disk", "nfs4", 1 << 40, True),
        ("runs disk", "tmpfs", 1 << 40, False),
        ("runs disk", "ext4", 1 << 30, False),
        ("ledger disk", "ext4", 1 << 40, True),
    ],
)
def test_places_that_are_far_short_lived_or_full_are_found(name: str, kind: str, free: int, ok: bool) -> None:
    check = storage.check_place(name, Path("/somewhere"), Storage(Path("/"), kind, free, 1 << 41), storage.RUNS_ROOM)
    assert (check.ok, bool(check.advice)) == (ok, not ok)


def test_a_damaged_and_a_foreign_ledger_are_found(tmp_path: Path, ledger: Ledger) -> None:
    foreign = tmp_path / "photos.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE photo (id)")
    before = foreign.read_bytes()
    assert not storage.check_ledger(foreign).ok
    assert foreign.read_bytes() == before
    assert storage.check_ledger(ledger.path).ok


def test_logout_that_ends_runs_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_answer", lambda *_: "b true")
    monkeypatch.setenv("LOGNAME", "ada")
    check = session.check_logout(systemd=tmp_path, linger=tmp_path / "linger")
    assert (check.ok, check.advice) == (False, "loginctl enable-linger")
    (tmp_path / "linger").mkdir()
    (tmp_path / "linger" / "ada").touch()
    assert session.check_logout(systemd=tmp_path, linger=tmp_path / "linger").ok
    assert session.check_logout(systemd=tmp_path / "none").ok


def test_a_clock_that_went_back_is_found(ledger: Ledger) -> None:
    runs.create(ledger, name="first", runs_folder=ledger.path.parent, profile="", settings={})
    assert session.check_clock(ledger.path, time.time()).ok
    assert not session.check_clock(ledger.path, time.time() - 3600).ok


def test_limits_are_found(tmp_path: Path) -> None:
    assert not session.check_files(256).ok
    assert session.check_files(-1).ok
    assert not session.check_shared_memory(tmp_path / "none").ok
    limit = tmp_path / "memory.max"
    limit.write_text("1073741824\n")
    assert "beyond 1.0 GiB" in session.check_memory(group=limit).found
