"""What SQLite refuses to do, in words for people."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import Problem


@contextmanager
def in_words(path: Path) -> Iterator[None]:
    """Turn SQLite's errors that a person can act on into problems with the ledger at `path`; others are bugs and stay.

    Raises:
        Problem: code `disk` (full or failing), `busy`, or `ledger` (damaged, unreadable, read-only).
    """
    try:
        yield
    except UnicodeDecodeError as error:  # what SQLite says of a damaged schema quotes it
        raise _damaged(path, str(error)) from error
    except sqlite3.Error as error:
        problem = _problem(error, path)
        if problem is None:
            raise
        raise problem from error


def _problem(error: sqlite3.Error, path: Path) -> Problem | None:
    said = f"SQLite says: {error}."
    if str(error).startswith("Could not decode to UTF-8"):  # Python's own, without a code
        return _damaged(path, said)
    full = Problem(
        f"{path} cannot be written: the disk is full",
        "What was committed before is safe.",
        "Free some space on that disk; it goes on by itself where something waits for it.",
        code="disk",
    )
    if (
        getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHMSIZE
    ):  # of the memory that programs share, a file
        return full
    # The low byte is the primary result code, the rest says where it happened (https://sqlite.org/rescode.html).
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_FULL:
            return full
        case sqlite3.SQLITE_IOERR:
            return Problem(f"{path} cannot be read or written", said, "Check that disk and its space.", code="disk")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return Problem(
                f"{path} is busy",
                "Another program has held it for seconds.",
                "Close other programs that have it open, then try again.",
                code="busy",
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return _damaged(path, said)
        case sqlite3.SQLITE_READONLY:
            return Problem(
                f"{path} cannot be written",
                said,
                "Copy it to a folder you can write to and open the copy.",
                code="ledger",
            )
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return Problem(f"{path} cannot be opened", said, "Check that it is there and may be read.", code="ledger")
    return None


def _damaged(path: Path, said: str) -> Problem:
    return Problem(
        f"{path} cannot be read as a ledger: it is damaged or something else",
        said,
        "Restore a copy, or name another with --ledger.",
        code="ledger",
    )
