"""Folders that are either whole or not there: written beside their place, synced, renamed; with the hash of every file in a manifest."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from engine.atomic import sync

MANIFEST: Final = "manifest.json"


def publish(folder: Path, write: Callable[[Path], None], *, before_rename: Callable[[], None] | None = None) -> int:
    """Let `write` fill a temporary folder, then put it in the place of `folder`; returns its bytes.

    `before_rename` runs when all is safely on disk but nobody can see it yet. Whatever fails leaves `folder` as it was; a
    process that dies in between leaves only hidden folders, which `tidy` removes.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    try:
        write(temporary)
        size = _seal(temporary)
        if before_rename:
            before_rename()
        _swap(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return size


def _seal(folder: Path) -> int:
    """Write the manifest and sync everything; returns the bytes of all files."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        path.chmod(0o600)
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"version": 1, "files": files}, indent=1))
    manifest.chmod(0o600)
    for path in [*folder.rglob("*"), folder]:
        sync(path)
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _swap(temporary: Path, folder: Path) -> None:
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def tidy(parent: Path) -> None:
    """Remove what a killed process left half-written; put back what it had only moved aside."""
    if not parent.is_dir():
        return
    for left in parent.glob(".*.old"):
        folder = parent / left.name[1 : -len(".old")]
        if folder.exists():
            shutil.rmtree(left)
        else:
            left.rename(folder)
    for left in parent.glob(".*.new"):
        shutil.rmtree(left)


def damage(folder: Path) -> str:
    """What is wrong with a published folder; empty when every file is what the manifest says."""
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
        for name, expected in files.items():
            path = folder / name
            if path.stat().st_size != expected["bytes"]:
                return f"{name} is {path.stat().st_size} bytes, not {expected['bytes']}"
            if sha256(path) != expected["sha256"]:
                return f"{name} is not what was written"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def sha256(path: Path) -> str:
    """A file's hash."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(folder: Path) -> str:
    """One hash over the names and bytes of a published folder's files: what an adapter or a tuned model is known by."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return _one_hash({path.relative_to(folder).as_posix(): sha256(path) for path in files})


def published_fingerprint(folder: Path) -> str:
    """As `fingerprint`, of the bytes that were written, without reading them again."""
    files = _manifest(folder)
    return _one_hash({name: files[name]["sha256"] for name in sorted(files)})


def published_bytes(folder: Path) -> int:
    """The bytes of a published folder's files, as they were written."""
    return sum(file["bytes"] for file in _manifest(folder).values())


def _manifest(folder: Path) -> dict[str, Any]:
    files: dict[str, Any] = json.loads((folder / MANIFEST).read_text())["files"]
    return files


def _one_hash(hashes: dict[str, str]) -> str:
    lines = "".join(f"{name}\0{digest}\n" for name, digest in hashes.items())
    return hashlib.sha256(lines.encode()).hexdigest()
