"""Copies of a ledger: whole ones while others write to it, and archives that open on read-only media.

A copy is made beside its place, checked, and only then put there: what stood there before stays until that moment.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from engine.atomic import replacing
from engine.errors import Problem
from engine.ledger import opening
from engine.ledger.refusals import in_words

PAGES: Final = 4096  # copied between two reports of progress: 16 MiB
Progress = Callable[[int, int], None]  # pages copied and to copy


def backup(path: Path, to: Path, *, replace: bool = False, progress: Progress | None = None) -> int:
    """Copy the ledger at `path`, as it is at this moment, to the file `to`; returns its bytes. Others may write to it meanwhile.

    Raises:
        Problem: `to` is there already (and not to be replaced), in use or cannot be written; the ledger is damaged or cannot be read.
    """
    report = progress or (lambda done, total: None)
    with _made(path, to, replace) as part, _snapshot(path) as source, closing(_file(part)) as copy:
        source.backup(copy, pages=PAGES, progress=lambda _, left, total: report(total - left, total))
    return to.stat().st_size


def archive(path: Path, to: Path, *, replace: bool = False) -> int:
    """As `backup`, but for keeping: without free pages, and one file that needs no others beside it where nothing can be written."""
    with _made(path, to, replace) as part, _snapshot(path) as source:
        source.execute("COMMIT")  # VACUUM reads in a transaction of its own
        source.execute("VACUUM INTO ?", (str(part),))
        with closing(_file(part)) as copy:
            copy.execute("PRAGMA journal_mode = DELETE")
    return to.stat().st_size


def refuse_place(path: Path, to: Path, *, replace: bool) -> None:
    """See that a copy of the ledger at `path` may be put at `to`.

    Raises:
        Problem: it may not.
    """
    if to.is_dir():
        raise Problem(f"{to} is a folder", "A copy is a file.", f"Name the file: {to / path.name}", code="disk")
    if not to.exists():
        return
    if path.exists() and to.samefile(path):
        raise Problem(f"{to} is the ledger itself", do="Name another file for the copy.", code="ledger")
    if not replace:
        raise Problem(f"{to} is there already", do="Name another file, or replace it: --force", code="exists")
    log = to.with_name(f"{to.name}-wal")
    if log.exists() and log.stat().st_size:  # SQLite would take the old file's changes for the new one's
        why = f"Its changes lie in {log.name}."
        raise Problem(f"{to} is in use", why, "Close what uses it, or name another file.", code="busy")


@contextmanager
def _made(path: Path, to: Path, replace: bool) -> Iterator[Path]:
    """An empty file to fill, which is then checked and put at `to`."""
    refuse_place(path, to, replace=replace)
    with replacing(to) as part, in_words(path):
        try:
            yield part
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:  # the copy's disk: nothing else is written
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise
        _refuse_damaged(part, path)


@contextmanager
def _snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that sees one state of the ledger: a copy made in steps would begin anew with each commit of others."""
    opening.version_of(path)
    connection, _ = opening.reader(path)
    with closing(connection):
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        yield connection


def _file(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def _refuse_damaged(copy: Path, path: Path) -> None:
    with closing(sqlite3.connect(f"{copy.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        answer = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    if answer != "ok":
        raise Problem(
            f"{path} is damaged, and so would its copy be",
            f"SQLite says: {answer}.",
            "See what is left: workbench ledger check. Restore an older copy.",
            code="ledger",
        )
