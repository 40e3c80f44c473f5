"""The command line: `workbench` alone is the application, `workbench COMMAND` its twin for scripts.

Figures go to stdout, words to stderr. Exit 0: done; 1: a "no" (does not fit, worse, found problems); 2: could not run.
A command is a module here with `add(commands)`; only the one that was asked for is imported, so that each starts fast.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import sqlite3
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import engine
from engine import places
from engine.errors import Problem
from engine.ledger.store import closing

COMMANDS: Final = (
    "demo",
    "data",
    "fit",
    "profile",
    "models",
    "train",
    "watch",
    "runs",
    "evaluate",
    "compare",
    "export",
    "import",
    "ledger",
    "pull",
    "doctor",
)
MODULES: Final = {"import": "imports"}  # of commands whose names are words of Python
INTERRUPTED: Final = 130  # as shells count: 128 + SIGINT
BROKEN_PIPE: Final = 141  # 128 + SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code. Argparse's own errors and --help exit by themselves (2 and 0)."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by who started us (`>&-`)
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - as long as the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a letter must not end the command
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()  # here, where a closed pipe is still caught
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read has gone (`| head`). Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Problem as problem:
        return _refused(problem)
    except (OSError, sqlite3.Error) as error:
        if (trouble := _disk_trouble(error)) is None:
            return _bug(error)
        return _refused(trouble)
    except Exception as error:  # noqa: BLE001 - the last resort: a bug is told in one line, its traceback kept in a file
        return _bug(error)


def _run(arguments: list[str]) -> int:
    # --ledger may stand before or behind the command: it is taken out first.
    anywhere = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    anywhere.add_argument("--ledger", type=Path)
    common, rest = anywhere.parse_known_args(_with_filter_joined(arguments))
    options = _parser(rest).parse_args(rest)
    options.ledger_named = common.ledger is not None
    options.ledger = (common.ledger or places.ledger_path()).expanduser()
    if options.command is None:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise Problem(
                "The application needs a terminal", "Input or output goes elsewhere.", "See: workbench --help"
            )
        from workbench import app

        return app.run(options.ledger)
    with closing():
        try:
            code = options.run(options)
        except (sqlite3.OperationalError, ValueError, LookupError) as error:
            if (damage := _damage(options.ledger)) is None:
                raise
            raise damage from error
    assert isinstance(code, int)
    return code


def _with_filter_joined(arguments: Sequence[str]) -> list[str]:
    """`--filter -tag:old` as `--filter=-tag:old`: argparse would take what begins with a dash for an option."""
    joined: list[str] = []
    for word in arguments:
        if joined[-1:] == ["--filter"] and word.startswith("-") and not word.startswith("--"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser with the command that is asked for, or with all of them when none is: for --help and for errors."""
    parser = argparse.ArgumentParser(
        prog="workbench",
        description="Fine-tune language models on this machine. Without a command: the application.",
        epilog="Exit codes: 0 done; 1 a no (does not fit, worse, found problems); 2 could not run.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"workbench {engine.__version__}")
    parser.add_argument("--ledger", metavar="FILE", type=Path, help=f"the ledger (default: {places.ledger_path()})")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    wanted = next((word for word in arguments if not word.startswith("-")), None)
    for name in (wanted,) if wanted in COMMANDS else () if arguments in ([], ["--version"]) else COMMANDS:
        importlib.import_module(f"workbench.cli.{MODULES.get(name, name)}").add(commands)
    return parser


def _refused(problem: Problem) -> int:
    from workbench.cli.output import words

    words(str(problem))
    return 2


def _damage(path: Path) -> Problem | None:
    """What is wrong with the rows of the ledger, if something is: reading them leads to errors that look like ours."""
    from engine.ledger import Ledger, contents

    if not path.is_file():
        return None
    try:
        fault = next(contents.faults(Ledger.open(path)), None)
    except Problem as problem:
        return problem
    if fault is None:
        return None
    return Problem(
        f"{path} is damaged",
        f"{fault[0].upper()}{fault[1:]}.",
        "See all that is wrong: workbench ledger check. Then restore a copy, or name another with --ledger.",
        code="ledger",
    )


def _disk_trouble(error: OSError | sqlite3.Error) -> Problem | None:
    """What a full disk or a locked ledger look like to a person; None when the error is neither."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or "disk is full" in str(error):
        place = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
        return Problem(
            f"The disk is full{place}", "Nothing that was saved is lost.", "Free some space, then try again."
        )
    if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
        return Problem("The ledger is busy", "Another process has been writing to it for a while.", "Try again.")
    if isinstance(error, PermissionError):
        return Problem(
            f"{error.filename} cannot be used", f"{error.strerror}.", "Choose a place that you may write to."
        )
    return None


def _bug(error: Exception) -> int:
    """Keep the traceback of what should not have happened, and say where; print it when WORKBENCH_DEBUG is set."""
    if os.environ.get("WORKBENCH_DEBUG"):
        traceback.print_exception(error)
        return 2
    log = places.home() / "errors.log"
    try:
        places.private_folder(log.parent)
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  workbench {engine.__version__}\n")
            traceback.print_exception(error, file=file)
        where = f"The traceback is in {log}."
    except OSError:
        where = "Set WORKBENCH_DEBUG=1 to see the traceback."
    print(
        f"workbench met a bug: {type(error).__name__}: {error}\n{where}\nRuns go on by themselves; nothing is lost.",
        file=sys.stderr,
    )
    return 2
