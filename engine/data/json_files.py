"""JSON as rows: an object on each line, or one document that holds them all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import orjson

from engine.data.examples import Row
from engine.data.line_index import BOM, LineIndex
from engine.data.source import Source, file_fingerprint, first_columns
from engine.errors import Problem


class JsonLines:
    """A file with a JSON object on each line."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.index = LineIndex(path)
        self.has_bom = self.index.has_bom

    @cached_property
    def columns(self) -> tuple[str, ...]:
        return first_columns(self)

    @cached_property
    def fingerprint(self) -> str:
        return file_fingerprint(self.index.path)

    def __len__(self) -> int:
        return len(self.index)

    def row(self, number: int) -> Row:
        where = self.index.where(number)
        try:
            value = orjson.loads(self.index.record(number))
        except orjson.JSONDecodeError as error:
            raise Problem(
                f"{where}: this line is not JSON", f"{error}.", "Repair or remove the line.", code="data"
            ) from error
        if not isinstance(value, dict):
            raise Problem(f"{where}: this line is no JSON object", f"It is a {type(value).__name__}.", code="data")
        return Row(where, value, where)

    def raw(self, number: int) -> str:
        return self.index.record(number).decode("utf-8", errors="replace")


class JsonObjects:
    """A JSON file that holds all rows: an array of objects, or one object whose keys are the ids."""

    def __init__(
        self, path: Path, values: Sequence[object], keys: Sequence[str] | None = None, *, has_bom: bool = False
    ) -> None:
        self.name = path.name
        self.path = path
        self.keys = keys
        self.values = values
        self.has_bom = has_bom
        self.columns = first_columns(self)

    @cached_property
    def fingerprint(self) -> str:
        return file_fingerprint(self.path)

    def __len__(self) -> int:
        return len(self.values)

    def row(self, number: int) -> Row:
        value = self.values[number]
        where = f"{self.name}:{self.keys[number] if self.keys else number + 1}"
        if not isinstance(value, dict):
            raise Problem(f"{where}: this row is no JSON object", f"It is a {type(value).__name__}.", code="data")
        return Row(self.keys[number] if self.keys else where, value, where)

    def raw(self, number: int) -> str:
        return orjson.dumps(self.values[number], option=orjson.OPT_INDENT_2).decode()


def open_json(path: Path) -> Source:
    """A `.json` file: an array, an object keyed by id, either under one key, or JSON Lines by the wrong name."""
    index = LineIndex(path)
    content = path.read_bytes().removeprefix(BOM)
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        lines = JsonLines(path)
        if len(lines) > 1 and lines.raw(0).rstrip().endswith("}") and lines.raw(1).startswith("{"):
            return lines
        raise Problem(f"{path}:{error.lineno}: this is not JSON", f"{error}.", code="data") from error
    if isinstance(value, dict) and len(value) == 1 and isinstance(next(iter(value.values())), list | dict):
        inner = next(iter(value.values()))
        members = inner if isinstance(inner, list) else list(inner.values())
        value = inner if members and all(isinstance(member, dict) for member in members) else value
    if isinstance(value, dict) and value and all(isinstance(member, dict) for member in value.values()):
        return JsonObjects(path, list(value.values()), list(value), has_bom=index.has_bom)
    if isinstance(value, list) and value:
        return JsonObjects(path, value, has_bom=index.has_bom)
    raise Problem(
        f"{path} holds no rows",
        f"It is {'an empty array' if value == [] else 'a JSON ' + type(value).__name__}; wanted is an array of objects, or an object keyed by id.",
        code="data",
    )
