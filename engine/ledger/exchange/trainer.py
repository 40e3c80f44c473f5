"""Hugging Face's Trainer: `trainer_state.json` in an output folder or its checkpoints holds all that was logged.

It tells steps but no times: a point's time is that of the first file that has it. It is not written atomically, so the newest
may be half there; then the one before counts. `training_args.bin` is a pickle and is left alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from engine.errors import Problem
from engine.ledger.exchange import foreign
from engine.ledger.exchange.imported import Gathering, Imported, Kind, uid_of
from engine.ledger.states import State

FILE: Final = "trainer_state.json"
SETTINGS: Final = ("max_steps", "num_train_epochs", "train_batch_size", "logging_steps", "eval_steps", "save_steps")
ADAPTER: Final = "adapter_config.json"
ADAPTER_SETTINGS: Final = (
    *("base_model_name_or_path", "r", "lora_alpha", "lora_dropout", "target_modules", "use_dora", "use_rslora"),
)
NO_METRICS: Final = ("step", "total_flos")


def is_state(found: object) -> bool:
    """Whether this JSON value is a Trainer's state."""
    return isinstance(found, dict) and isinstance(found.get("log_history"), list) and "global_step" in found


def files(path: Path) -> list[Path]:
    """The states in an output folder: its own and those of its checkpoints; `path` itself where it is one."""
    return [path] if path.is_file() else _beside_checkpoints(path, FILE)


def _beside_checkpoints(folder: Path, name: str) -> list[Path]:
    return [*folder.glob(name), *folder.glob(f"checkpoint-*/{name}")]


class _Written(NamedTuple):
    """A file as it was when it was looked at: when it was written (seconds since the epoch), and its bytes."""

    file: Path
    time: float
    size: int


def _oldest_first(found: Iterable[Path]) -> list[_Written]:
    """As they were written; one that has just gone is none: Trainer removes old checkpoints while it trains."""
    there = []
    for file in found:
        with suppress(FileNotFoundError):
            stat = file.stat()
            there.append(_Written(file, stat.st_mtime, stat.st_size))
    return sorted(there, key=lambda each: each.time)


class OutputFolder:
    """A reader of an output folder, of a checkpoint in one, or of one state file."""

    kind: Kind = "trainer"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: list[_Written] = []
        self._last: Imported | None = None

    def read(self) -> Imported | None:
        """What is known of the run, with all its points when something has changed; None while no state is whole.

        Raises:
            Problem: a file can no longer be read, or is something else.
        """
        states, troubles, waiting = [], [], 0
        try:
            there = _oldest_first(files(self.path))
            if there == self._seen:
                return self._last and replace(self._last, points={})
            for each in there:
                try:
                    state = _state(each.file)
                except FileNotFoundError:
                    continue
                if state is not None:
                    states.append((each, state))
                else:
                    troubles.append(f"{each.file} is half written or damaged: it was left out.")
                    waiting += each.size
        except OSError as error:
            raise Problem(f"{error.filename} cannot be read", f"{error.strerror}.", code="import") from error
        self._seen, self._last = there, None
        if not states:
            return None
        gathered = Gathering()
        for each, state in reversed(states):
            _gather(gathered, state, each.time)  # the oldest comes last and has the say about times
        furthest = max(
            (state for _, state in states), key=lambda state: (_whole(state, "global_step"), len(_log(state)))
        )
        if stray := _entries(furthest) - len(_log(furthest)):
            troubles.append(f"Entries of the log without a whole number as their step: {stray:,}.")
        self._last = self._told(states[0][0].time, furthest, gathered, tuple(troubles), waiting)
        return self._last

    def _told(
        self, created: float, state: dict[str, object], gathered: Gathering, troubles: tuple[str, ...], waiting: int
    ) -> Imported:
        log = _log(state)
        steps = _whole(state, "max_steps") or None
        done = any("train_runtime" in row for row in log) or (
            steps is not None and _whole(state, "global_step") >= steps
        )
        folder = self.path if self.path.is_dir() else self.path.parent
        if folder.name.startswith("checkpoint-"):
            folder = folder.parent
        return Imported(
            uid=uid_of(self.kind, folder.resolve(), json.dumps(log[:1], sort_keys=True)),
            kind=self.kind,
            path=self.path,
            name=folder.resolve().name,
            created=created,
            points=gathered.take(),
            settings=foreign.settings({key: state.get(key) for key in SETTINGS} | _adapter(folder)),
            state=State.FINISHED if done else None,
            steps=steps,
            troubles=troubles,
            waiting=waiting,
        )


def _gather(gathered: Gathering, state: dict[str, object], when: float) -> None:
    names = foreign.Names()
    for row in _log(state):
        step = _whole(row, "step")
        for key, value in foreign.numbers(row).items():
            if key not in NO_METRICS:
                gathered.add(names(prefixed(key)), step, when, value)


def prefixed(key: str) -> str:
    """As Trainer's callbacks hand a metric on to trackers (transformers.integrations.rewrite_logs)."""
    for part in ("eval", "test"):
        if key.startswith(f"{part}_"):
            return f"{part}/{key.removeprefix(f'{part}_')}"
    return f"train/{key}"


def _state(file: Path) -> dict[str, object] | None:
    """The state in the file; None where it is half written.

    Raises:
        OSError: it cannot be read.
        Problem: it is something else.
    """
    try:
        found = foreign.parsed(file.read_bytes())
    except ValueError:
        return None
    if not is_state(found):
        raise Problem(f"{file} is not a Trainer's state", "It has no log_history and global_step.", code="import")
    assert isinstance(found, dict)
    return found


def _entries(state: dict[str, object]) -> int:
    """How many there are in the log, whatever they are."""
    rows = state.get("log_history")
    return len(rows) if isinstance(rows, list) else 0


def _log(state: dict[str, object]) -> list[dict[str, object]]:
    """The entries of the log, each with its step."""
    rows = state.get("log_history")
    objects = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [row for row in objects if foreign.whole(row.get("step")) is not None]


def _whole(row: dict[str, object], key: str) -> int:
    return foreign.whole(row.get(key)) or 0


def _adapter(folder: Path) -> dict[str, object]:
    """What PEFT writes beside an adapter, of the newest checkpoint that has one."""
    for each in reversed(_oldest_first(_beside_checkpoints(folder, ADAPTER))):
        try:
            found = foreign.parsed(each.file.read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(found, dict):
            settings = {key: found.get(key) for key in ADAPTER_SETTINGS}
            return {"method.name": str(found.get("peft_type", "")).lower(), **settings}
    return {}
