"""Plain text files as rows: each file is a document, in the column `text`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

from engine.data.examples import Row
from engine.data.line_index import BOM
from engine.data.source import file_fingerprint
from engine.errors import Problem

SUFFIX: Final = ".txt"


class TextFiles:
    """Files, read when their row is asked for."""

    columns: Final = ("text",)

    def __init__(self, name: str, paths: Sequence[Path]) -> None:
        missing = next((path for path in paths if not path.is_file()), None)
        if missing is not None:
            raise Problem(f"There is no file {missing}", do="Check the path in data.source.", code="data")
        self.name = name
        self.paths = tuple(paths)

    @property
    def has_bom(self) -> bool:
        return any(_head(path) == BOM for path in self.paths)

    @cached_property
    def fingerprint(self) -> str:
        prints = [file_fingerprint(path) for path in self.paths]
        return prints[0] if len(prints) == 1 else hashlib.sha256("\n".join(prints).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.paths)

    def row(self, number: int) -> Row:
        path = self.paths[number]
        try:
            text = path.read_bytes().removeprefix(BOM).decode("utf-8")
        except OSError as error:
            raise Problem(f"{path} cannot be read", f"{error.strerror}.", code="data") from error
        except UnicodeDecodeError as error:
            do = f"Convert it: iconv -f LATIN1 -t UTF-8 {path.name} > new.txt, if it is Latin-1."
            raise Problem(f"{path.name}: this is not UTF-8", f"{error}.", do, code="data") from error
        return Row(path.name, {"text": text}, path.name)

    def raw(self, number: int) -> str:
        return self.paths[number].read_text(encoding="utf-8", errors="replace")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(BOM))
