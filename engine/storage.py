"""What kind of disk a folder is on: whether it is far away, whether it survives a restart, how much is free (Linux's mountinfo)."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_NAMES = """nfs nfs4 cifs smb3 smbfs lustre gpfs beegfs ceph glusterfs afs pvfs2 orangefs wekafs fuse.sshfs fuse.glusterfs
fuse.ceph fuse.cephfs fuse.s3fs fuse.gcsfuse fuse.rclone fuse.juicefs fuse.beegfs"""
NETWORK: Final = frozenset(_NAMES.split())
"""File systems on which SQLite's WAL does not work: its shared memory needs one machine (https://sqlite.org/wal.html)."""
SHORT_LIVED: Final = {
    "tmpfs": "it is in memory and gone after a restart",
    "ramfs": "it is in memory and gone after a restart",
    "overlay": "it belongs to a container and goes with it, unless the container is kept",
}


@dataclass(frozen=True)
class Storage:
    """Where a path is or would be; `mount` is the mount point, `kind` the file system's name, `free` and `total` are bytes."""

    mount: Path
    kind: str
    free: int
    total: int

    @property
    def is_network(self) -> bool:
        """Whether other machines share it."""
        return self.kind in NETWORK

    @property
    def short_lived(self) -> str:
        """Why what is kept here will not last; empty where it does."""
        return SHORT_LIVED.get(self.kind, "")


def storage_of(path: Path, mounts: str | None = None) -> Storage:
    """The storage below `path`, which need not exist yet. `mounts` is mountinfo's text, by default this process's."""
    place = _there(path).resolve()
    if mounts is None:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    mount, kind = Path("/"), "unknown"
    for line in mounts.splitlines():
        # ID PARENT DEVICE ROOT MOUNT OPTIONS [TAGS...] - KIND SOURCE OPTIONS (proc_pid_mountinfo(5)); later mounts hide earlier ones.
        left, _, right = line.partition(" - ")
        where = Path(_unescaped(left.split()[4]))
        if place.is_relative_to(where) and len(where.parts) >= len(mount.parts):
            mount, kind = where, right.split()[0]
    disk = os.statvfs(place)
    return Storage(mount, kind, disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize)


def free_bytes(path: Path) -> int:
    """What is free on the disk of `path`, which need not exist yet.

    Raises:
        OSError: the disk does not answer.
    """
    return shutil.disk_usage(_there(path)).free


def _there(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    place = path.expanduser().absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


def _unescaped(text: str) -> str:
    """Blanks and the like stand as octal numbers: `\\040`."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
