"""TensorBoard: a folder of event files is a run. Scalars are read, and the settings that are kept beside them.

Messages: tensorflow/core/util/event.proto, framework/summary.proto, framework/tensor.proto; tensorboard/plugins/hparams/plugin.proto.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from engine.errors import Problem
from engine.ledger.exchange import event_files, foreign, wire
from engine.ledger.exchange.imported import Gathering, Imported, Kind, uid_of

PATTERN: Final = "*tfevents.*"
OF_ADD_HPARAMS: Final = re.compile(r"^\d{10}\.\d+$")  # folders that `SummaryWriter.add_hparams` makes in a run's folder
TOGETHER: Final = 1.0  # seconds: tags of one step that were written within it were logged together, and have one time
RESTARTED: Final = 1  # SessionLog.START
TENSORS: Final = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8"}  # DataType of scalars, as NumPy says it


def folders(path: Path) -> list[Path]:
    """The folders at and below `path` that are runs."""
    found = {file.parent for file in path.rglob(PATTERN) if file.is_file()}
    return sorted({_run_folder(folder) if folder != path else folder for folder in found})


def _run_folder(folder: Path) -> Path:
    return folder.parent if OF_ADD_HPARAMS.match(folder.name) else folder


@dataclass
class _File:
    path: Path
    offset: int = 0
    damaged: int = 0
    waiting: int = 0
    broken: bool = False
    began: float | None = None  # the time of its first record


class EventFolder:
    """A reader of one folder's event files, in the order of their names, which begin with a time."""

    kind: Kind = "tensorboard"

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self._name = name
        self._files: dict[Path, _File] = {}
        self._names = foreign.Names()
        self._gathered = Gathering()
        self._settings: dict[str, object] = {}
        self._last = (0, 0.0)  # step and time

    def read(self) -> Imported | None:
        """What is known of the run, with the points that came since; None while there is no whole record.

        Raises:
            Problem: a file can no longer be read.
        """
        own, inner = sorted(self.path.glob(PATTERN)), sorted(self.path.glob(f"*/{PATTERN}"))
        for path in [*own, *(path for path in inner if OF_ADD_HPARAMS.match(path.parent.name))]:
            self._read(self._files.setdefault(path, _File(path)))
        # The run's own first file, whatever has come later.
        files = sorted(self._files.values(), key=lambda file: (file.path.parent != self.path, file.path))
        began = [file for file in files if file.began is not None]
        if not began:
            return None
        return Imported(
            uid=uid_of(self.kind, self.path.name, began[0].path.name, repr(began[0].began)),
            kind=self.kind,
            path=self.path,
            name=self._name,
            created=began[0].began or 0.0,
            points=self._gathered.take(),
            settings=foreign.settings(self._settings),
            state=self._gathered.state,
            troubles=tuple(trouble for file in files if (trouble := _trouble(file))),
            waiting=sum(file.waiting for file in files if not file.broken),
        )

    def _read(self, file: _File) -> None:
        more = True
        while more:
            try:
                found = event_files.read(file.path, file.offset)
            except OSError as error:
                raise Problem(f"{file.path} cannot be read", f"{error.strerror}.", code="import") from error
            more, file.offset, file.waiting, file.broken = found.more, found.offset, found.waiting, found.broken
            file.damaged += found.damaged
            for record in found.records:
                try:
                    when = self._take(record)
                except ValueError:
                    file.damaged += 1
                    continue
                file.began = when if file.began is None else file.began

    def _take(self, record: bytes) -> float:
        """One Event; its time.

        Raises:
            ValueError: it is none.
        """
        when, step = 0.0, 0
        for number, value in wire.fields(record):
            if number == 1:
                when = wire.floating(value)
            elif number == 2:
                step = wire.signed(value)
            elif number == 5:
                for each, summary in wire.fields(wire.inside(value)):
                    if each == 1:
                        self._take_value(step, when, dict(wire.fields(wire.inside(summary))))
            elif number == 7 and dict(wire.fields(wire.inside(value))).get(1) == RESTARTED:
                self._gathered.drop_from(step)
        return when

    def _take_value(self, step: int, when: float, value: dict[int, wire.Field]) -> None:
        """One Summary.Value: a scalar in either of its forms, or settings."""
        tag = wire.text(value.get(1, b""))
        if tag in ("args/text_summary", "model_config/text_summary"):  # as Trainer's callback writes them
            self._settings |= _json(_string(value))
        elif tag == "_hparams_/session_start_info":
            self._settings |= _hparams(value)
        elif tag in foreign.STEP_KEYS:
            return
        elif (scalar := wire.floating(value[2]) if 2 in value else _scalar(value)) is not None:
            if not (self._last[0] == step and 0 <= when - self._last[1] < TOGETHER):
                self._last = (step, when)
            self._gathered.add(self._names(tag), step, self._last[1], scalar)


def _trouble(file: _File) -> str:
    if file.broken:
        return f"{file.path.name} is damaged from byte {file.offset:,} on: {file.waiting:,} bytes were not read."
    return f"{file.path.name}: damaged records, which were left out: {file.damaged:,}." if file.damaged else ""


def _plugin(value: dict[int, wire.Field]) -> tuple[str, bytes]:
    """The name and the data of the plugin that a Summary.Value is for."""
    metadata = dict(wire.fields(wire.inside(value.get(9, b""))))
    data = dict(wire.fields(wire.inside(metadata.get(1, b""))))
    return wire.text(data.get(1, b"")), wire.inside(data.get(2, b""))


def _scalar(value: dict[int, wire.Field]) -> float | None:
    """The one number of a tensor that is a scalar; None where it is something else."""
    if 8 not in value or _plugin(value)[0] not in ("scalars", ""):
        return None
    tensor = dict(wire.fields(wire.inside(value[8])))
    dtype = TENSORS.get(wire.signed(tensor.get(1, 0)))
    if dtype is None:
        return None
    content = tensor.get(4) or tensor.get(5) or tensor.get(6)  # as bytes, or packed as floats or doubles
    if isinstance(content, bytes) and len(content) == int(dtype[-1]):
        return float(np.frombuffer(content, dtype)[0])
    whole = tensor.get(7, tensor.get(10))  # int_val, int64_val: varints
    if isinstance(whole, bytes) and whole:
        whole = next((number for _, number in wire.fields(b"\x08" + whole)), None)
    return float(wire.signed(whole)) if isinstance(whole, int) else None


def _string(value: dict[int, wire.Field]) -> str:
    tensor = dict(wire.fields(wire.inside(value.get(8, b""))))
    return wire.text(tensor.get(8, b""))


def _json(text: str) -> dict[str, object]:
    """A JSON object in a text, perhaps between the fences of Markdown; empty where there is none."""
    try:
        found = foreign.parsed(text[text.find("{") : text.rfind("}") + 1])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _hparams(summary: dict[int, wire.Field]) -> dict[str, object]:
    """HParamsPluginData.session_start_info.hparams: a map from names to google.protobuf.Value."""
    settings: dict[str, object] = {}
    for number, info in wire.fields(_plugin(summary)[1]):
        for each, entry in wire.fields(wire.inside(info)) if number == 3 else ():
            if each == 1:
                pair = dict(wire.fields(wire.inside(entry)))
                kind, held = next(wire.fields(wire.inside(pair.get(2, b""))), (0, 0))
                if kind in (2, 3, 4):
                    value = wire.floating(held) if kind == 2 else wire.text(held) if kind == 3 else bool(held)
                    settings[wire.text(pair.get(1, b""))] = value
    return settings
