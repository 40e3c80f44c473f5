"""What the three programs' data sets have in common: a path that is a file here or a hub id, and the names of columns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from engine.importing.carrying import Carry, names


def place(path: str, folder: Path) -> str:
    """A file's name made absolute where the file is: beside the configuration, else in the working folder; a hub id stays."""
    for beside in (folder, Path.cwd()):
        if (beside / Path(path).expanduser()).exists():
            return str((beside / Path(path).expanduser()).resolve())
    return path


def source(carry: Carry, number: int, key: str = "path", files: str = "data_files") -> str:
    """Carry where a data set comes from; the dotted key of its table in the profile.

    Files are named as they are; of several, one pattern or name is wanted for each source.
    """
    to = f"data.{number}"
    given = carry.get(files)
    chosen = [str(given)] if isinstance(given, str) else names(given) if isinstance(given, list) else []
    if chosen:
        found = place(chosen[0], carry.folder)
        if len(chosen) > 1:
            why = f"only {chosen[0]}: each of the others needs a [[data]] of its own, or one pattern for all"
            carry.changed(files, {f"{to}.source": found}, why)
        carry.same(files, f"{to}.source", found)
        carry.needless(key, f"{files} says it")
    else:
        carry.same(key, f"{to}.source", place(str(carry.get(key, "")), carry.folder))
    return to


def split(carry: Carry, key: str, to: str) -> None:
    """A hub data set's split; a slice of one (`train[:10%]`) is taken whole."""
    named = str(carry.get(key, "train"))
    whole = re.split(r"[\[+]", named)[0]
    if whole != named:
        carry.changed(key, {f"{to}.split": whole}, "the whole split is taken, not a part of it")
    carry.same(key, f"{to}.split", named)


def columns(carry: Carry, to: str, found: Mapping[str, str]) -> None:
    """Which columns hold what."""
    if found:
        carry.values[f"{to}.columns"] = dict(found)
