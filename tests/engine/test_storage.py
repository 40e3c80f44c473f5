"""Which disk a path is on."""

from __future__ import annotations

from pathlib import Path

from engine.storage import storage_of


def test_deepest_mount_counts_and_blanks_are_read(tmp_path: Path) -> None:
    shared = tmp_path / "group share"
    shared.mkdir()
    escaped = str(shared).replace(" ", "\\040")
    mounts = "\n".join(
        [
            "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw",
            f"40 27 0:40 / {tmp_path} rw shared:1 - tmpfs tmpfs rw",
            f"41 40 0:41 / {escaped} rw,relatime shared:7 master:2 - nfs4 server:/export rw",
            "42 27 0:42 / /elsewhere rw - lustre x rw",
        ]
    )
    far = storage_of(shared / "not" / "there" / "yet", mounts)
    assert (far.mount, far.kind, far.is_network) == (shared, "nfs4", True)
    near = storage_of(tmp_path, mounts)
    assert (near.kind, near.is_network) == ("tmpfs", False)
    assert "restart" in near.short_lived


def test_this_machine_answers(tmp_path: Path) -> None:
    here = storage_of(tmp_path)
    assert tmp_path.is_relative_to(here.mount)
    assert 0 <= here.free <= here.total


def test_shared_memory_does_not_last() -> None:
    assert storage_of(Path("/dev/shm")).short_lived
