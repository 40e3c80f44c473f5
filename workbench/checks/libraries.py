"""Python, the libraries that the program names, and SQLite. Nothing heavy is imported: versions come from what is installed."""

from __future__ import annotations

import platform
import sqlite3
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Final

from packaging.requirements import Requirement

from workbench.checks import Check

DISTRIBUTION: Final = "finetune-workbench"
OLDEST: Final = (3, 11)
WAL_BUG: Final = ((3, 7, 0), (3, 51, 2))
"""First and last SQLite that can damage a WAL when one connection writes while another checkpoints (https://sqlite.org/wal.html#walresetbug)."""


def check_all() -> Iterator[Check]:
    """Python, every library of the base install and of the extra `engine`, SQLite."""
    yield check_python()
    yield from (check_library(requirement, extra) for requirement, extra in wanted())
    yield check_sqlite(sqlite3.sqlite_version_info)


def check_python() -> Check:
    """Whether this Python is new enough."""
    ok = sys.version_info >= OLDEST
    return Check(
        "python",
        ok,
        f"{platform.python_version()} at {sys.executable}",
        "" if ok else "Python 3.11 or newer is needed: make PYTHON=python3.12 install",
    )


def wanted() -> list[tuple[Requirement, str]]:
    """What the distribution needs, each with its extra ("" for the base install); what only developers need is left out."""
    found = []
    for requirement in map(Requirement, metadata.requires(DISTRIBUTION) or []):
        for extra in ("", "engine"):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                found.append((requirement, extra))
                break
    return found


def check_library(requirement: Requirement, extra: str) -> Check:
    """Whether a library is installed, and in a version that the program works with."""
    needed = f'pip install "{DISTRIBUTION}[{extra}]"' if extra else f"pip install {DISTRIBUTION}"
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        rest = "; runs cannot be started here, looking and comparing work" if extra else ""
        return Check(requirement.name, False, f"not installed{rest}", needed)
    if not requirement.specifier.contains(version, prereleases=True):
        return Check(requirement.name, False, f"{version}, needed is {requirement.specifier}", needed)
    return Check(requirement.name, True, version)


def check_sqlite(version: tuple[int, ...]) -> Check:
    """Which SQLite, and whether it has the bug that the ledger's lock keeps away."""
    first, last = WAL_BUG
    shown = ".".join(map(str, version))
    if first <= version <= last:
        return Check(
            "sqlite", True, f"{shown}, with the WAL-reset bug of 3.7.0 to 3.51.2; the ledger's lock keeps it away"
        )
    return Check("sqlite", version >= first, shown, "" if version >= first else "SQLite 3.7 or newer is needed.")
