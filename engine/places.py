"""Where things are kept: the user's home for Workbench and what ships with the program."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import platformdirs


def home() -> Path:
    """The folder of the ledger, the settings and (unless set otherwise) the runs: WORKBENCH_HOME or the platform's."""
    chosen = os.environ.get("WORKBENCH_HOME")
    return Path(chosen).expanduser().absolute() if chosen else platformdirs.user_data_path("workbench")


def ledger_path() -> Path:
    """The ledger that is opened when none is named."""
    return home() / "ledger.db"


def settings_path() -> Path:
    """The user's settings: where runs go, theme, key map."""
    return home() / "settings.toml"


def cache() -> Path:
    """What can be made again: the demo's base model, measured GPUs."""
    return home() / "cache"


def private_folder(path: Path) -> Path:
    """`path`, made if needed, readable by its owner only (0700)."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


NETWORK: Final = frozenset(
    {"nfs", "nfs4", "lustre", "cifs", "smb3", "smbfs", "ceph", "gpfs", "beegfs", "afs"}
    | {"fuse.sshfs", "fuse.glusterfs", "fuse.cephfs"}
)


def network_file_system(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the network file system that `path` lies on, such as nfs4; empty on a local disk."""
    path = path.resolve()
    longest, kind = "", ""
    for line in mounts.read_bytes().splitlines():
        # The mount point is the fifth field, blanks in it as octal; the type is the first after " - " (proc(5)).
        left, _, right = line.partition(b" - ")
        point = os.fsdecode(left.split(b" ")[4].decode("unicode_escape").encode("latin-1"))
        if path.is_relative_to(point) and len(point) >= len(longest):
            longest, kind = point, right.split(b" ")[0].decode()
    return kind if kind in NETWORK else ""


def shipped() -> Path:
    """The folder `profiles/` that comes with the program: inside the package in a wheel, beside it in a checkout."""
    here = Path(__file__).resolve().parent
    inside = here / "shipped_profiles"
    return inside if inside.is_dir() else here.parent / "profiles"
