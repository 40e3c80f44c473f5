"""Runs on the other machine, sent there as text: needs Python 3.7 and nothing else, and writes nothing but a temporary copy.

`ledger PLACE` sends a consistent copy of the ledger in the folder or file PLACE (empty: where Workbench keeps it), also while jobs write
to it. `files FOLDER NAME...` sends these files of a folder, and all in these folders of it. What is sent are lines of JSON that say what
follows: {"file": NAME, "bytes": N} and N bytes; last {"end": true}; or {"problem": WHAT, "do": DO}.
"""

import json
import os
import sqlite3
import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Send what was asked for."""
    verb, place, *names = sys.argv[1:]
    try:
        if verb == "ledger":
            send_ledger(find(place))
        else:
            send_files(Path(place), names)
        say({"end": True})
    except (OSError, sqlite3.OperationalError) as error:
        say({"problem": str(error), "do": "Look at that disk and its space."})
    except sqlite3.DatabaseError as error:
        do = "See there what is left of it: workbench ledger check"
        say({"problem": f"The ledger there is damaged or something else: {error}", "do": do})
    sys.stdout.buffer.flush()


def find(place: str) -> Path:
    """The ledger's file."""
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    path = Path(place or os.environ.get("WORKBENCH_HOME") or Path(data) / "workbench").expanduser()
    return path / "ledger.db" if path.is_dir() or path.suffix != ".db" else path


def send_ledger(path: Path) -> None:
    """Send a copy of one moment, made beside the ledger or where temporary files go."""
    if not path.is_file():
        say({"problem": f"There is no ledger at {path}", "do": "Say where its WORKBENCH_HOME is: BOX:FOLDER"})
        return
    beside = path.parent if os.access(path.parent, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix=".copying-", dir=beside) as folder:
        copy = Path(folder) / "ledger.db"
        source = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=30)
        target = sqlite3.connect(copy)
        source.execute("BEGIN")  # one state: a copy made in steps would begin anew with each commit of others
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()
        source.backup(target)
        target.close()
        source.close()
        send(copy, "ledger.db")


def send_files(folder: Path, names: "list[str]") -> None:
    """Send the files that are there; names are relative to the folder."""
    for name in names:
        path = folder / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and not file.is_symlink():
                send(file, file.relative_to(folder).as_posix())


def send(path: Path, name: str) -> None:
    """Send as many bytes as are told of, though the file grows meanwhile; one that shrinks ends the transfer."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        say({"file": name, "bytes": size})
        while size:
            data = file.read(min(size, 1 << 20))
            if not data:
                raise SystemExit(f"{path} has become shorter")
            sys.stdout.buffer.write(data)
            size -= len(data)


def say(told: "dict[str, object]") -> None:
    """A line of the protocol."""
    sys.stdout.buffer.write(json.dumps(told).encode() + b"\n")


if __name__ == "__main__":
    main()
