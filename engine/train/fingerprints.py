"""The fingerprint of a base model: a hash over its files, computed beside the work and remembered by path, size and time."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from engine import atomic, hub, places
from engine.errors import Problem
from engine.folders import sha256

REMEMBERED: Final = 2000  # files


def of_base(folder: Path) -> str:
    """One hash over the names and bytes of a base model's weights, configuration and tokenizer."""
    known = _read()
    digest = hashlib.sha256()
    for path in sorted({path for pattern in hub.WANTED for path in folder.glob(pattern) if path.is_file()}):
        stat = path.stat()
        key = f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
        known[key] = known.pop(key, "") or sha256(path)
        digest.update(f"{path.name}\\0{known[key]}\\n".encode())
    _write(dict(list(known.items())[-REMEMBERED:]))
    return digest.hexdigest()


def in_background(folder: Path, record: Callable[[str], None]) -> threading.Thread:
    """Start computing; `record` is called in a thread of its own once it is known."""
    thread = threading.Thread(target=lambda: record(of_base(folder)), name="fingerprint", daemon=True)
    thread.start()
    return thread


def _read() -> dict[str, str]:
    try:
        found = json.loads((places.cache() / "fingerprints.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(known: dict[str, str]) -> None:
    try:
        places.private_folder(places.cache())
        atomic.write_text(places.cache() / "fingerprints.json", json.dumps(known, indent=1))
    except (OSError, Problem):
        pass  # only a memory of what can be computed again
