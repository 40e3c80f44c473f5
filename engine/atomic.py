"""Files that are either the old one or the new one, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from engine.errors import Problem

ADVICE: Final = {
    errno.ENOSPC: "Free some space or choose another place, then try again.",
    errno.EDQUOT: "Free some of your quota or choose another place, then try again.",
    errno.ENOENT: "Make the folder first, or choose another place.",
}


def write_bytes(path: Path, data: bytes) -> None:
    """Put `data` at `path`, as `replacing` does.

    Raises:
        Problem: the folder is missing, cannot be written or is full; what stood at `path` is untouched.
    """
    with replacing(path) as part:
        part.write_bytes(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A private (0600) empty file beside `path` to fill, which is put there on leaving: fsync, rename, fsync of the folder.

    A link is followed, so that a file kept elsewhere (dotfiles) stays there.

    Raises:
        Problem: the folder is missing, cannot be written or is full; what stood at `path` is untouched, as after any exception.
    """
    target = Path(os.path.realpath(path))
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".new", dir=target.parent)
        os.close(handle)
        part = Path(temporary)
        try:
            yield part
            sync(part)
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        sync(target.parent)
    except OSError as error:
        raise Problem(
            f"{path} cannot be written",
            f"{error.strerror}; what stood there is as it was.",
            ADVICE.get(error.errno or 0, "Choose another place, then try again."),
            code="disk",
        ) from error


def write_text(path: Path, text: str) -> None:
    """As `write_bytes`, in UTF-8."""
    write_bytes(path, text.encode())


def sync(path: Path) -> None:
    """Make a file's bytes, or the names in a folder, survive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
