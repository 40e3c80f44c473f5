"""wandb's offline folders: `offline-run-DATE_TIME-ID/run-ID.wandb` holds all that a run told, before and without a server.

Messages: wandb/proto/wandb_internal.proto. A run that was resumed has several folders with one id: each brings its part.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from engine.errors import Problem
from engine.ledger.exchange import foreign, wandb_log, wire
from engine.ledger.exchange.imported import Gathering, Imported, Kind, uid_of
from engine.ledger.states import State

HISTORY, CONFIG, RUN, EXIT, ENVIRONMENT = 2, 5, 17, 18, 26  # fields of Record
OWN: Final = ("_step", "_runtime", "_timestamp")


class OfflineRun:
    """A reader of a run's `.wandb` file, and of those in which it was `resumed` later, in their order."""

    kind: Kind = "wandb"

    def __init__(self, path: Path, *resumed: Path) -> None:
        self.path = path
        self._offsets = dict.fromkeys((path, *resumed), 0)
        self._damaged = 0
        self._names = foreign.Names()
        self._gathered = Gathering()
        self._config: dict[str, object] = {}
        self._environment: dict[str, object] = {}
        self._run: dict[str, str] = {}
        self._tags: list[str] = []
        self._gpu = ""
        self._started = 0.0
        self._exit: int | None = None
        self._step: int | None = None  # the optimizer's, once a row has told of it

    def read(self) -> Imported | None:
        """What is known of the run, with the points that came since; None until the file says which run it is.

        Raises:
            Problem: it is not wandb's log, or can no longer be read.
        """
        waiting = sum(map(self._read, self._offsets))
        return self._told(waiting) if "run_id" in self._run else None

    def _read(self, path: Path) -> int:
        """What came since in one file; how many bytes wait for their rest."""
        more, waiting = True, 0
        while more:
            found = _records(path, self._offsets[path])
            more, waiting = found.more, found.waiting
            self._offsets[path] = found.offset
            self._damaged += found.damaged
            for record in found.records:
                try:
                    self._take(record)
                except ValueError:
                    self._damaged += 1
        return waiting

    def _told(self, waiting: int) -> Imported:
        run = self._run
        broken = f"{self.path.name}: damaged records, which were left out: {self._damaged:,}." if self._damaged else ""
        ended = {None: None, 0: State.FINISHED}.get(self._exit, State.FAILED)
        return Imported(
            uid=uid_of(self.kind, run.get("entity", ""), run.get("project", ""), run["run_id"]),
            kind=self.kind,
            path=self.path,
            name=run.get("display_name") or run["run_id"],
            created=self._started or self.path.stat().st_mtime,
            points=self._gathered.take(),
            settings=foreign.settings(self._config),
            state=ended,
            cause=f"exit {self._exit}" if ended is State.FAILED else "",
            note=run.get("notes", ""),
            tags=tuple(self._tags),
            sweep=run.get("sweep_id") or run.get("run_group", ""),
            gpu=self._gpu,
            environment=self._environment,
            troubles=(broken,) if broken else (),
            waiting=waiting,
        )

    def _take(self, record: bytes) -> None:
        """One Record.

        Raises:
            ValueError: it is none.
        """
        for number, value in wire.fields(record):
            if number == HISTORY:
                self._take_row(dict(_items(wire.inside(value))))
            elif number == CONFIG:
                self._take_config(wire.inside(value))
            elif number == RUN:
                self._take_run(wire.inside(value))
            elif number == EXIT:
                self._exit = wire.signed(dict(wire.fields(wire.inside(value))).get(1, 0))
            elif number == ENVIRONMENT:
                self._take_environment(wire.inside(value))

    def _take_run(self, message: bytes) -> None:
        names = {1: "run_id", 2: "entity", 3: "project", 6: "run_group", 8: "display_name", 9: "notes", 12: "sweep_id"}
        self._exit, self._tags = None, []
        for number, value in wire.fields(message):
            if number in names:
                self._run[names[number]] = wire.text(value)
            elif number == 4:
                self._take_config(wire.inside(value))
            elif number == 10:
                self._tags.append(wire.text(value))
            elif number == 13:
                self._environment["host"] = wire.text(value)
            elif number == 17:
                self._started = self._started or wire.time(value)

    def _take_config(self, message: bytes) -> None:
        self._config |= {key: value for key, value in _items(message) if not key.startswith("_wandb")}

    def _take_environment(self, message: bytes) -> None:
        count = 1
        for number, value in wire.fields(message):
            if number in (1, 2, 25):
                self._environment[{1: "os", 2: "python", 25: "cuda"}[number]] = wire.text(value)
            elif number == 18:
                self._gpu = wire.text(value)
            elif number == 19:
                count = wire.signed(value)
        self._gpu = foreign.short_gpu(self._gpu, count)

    def _take_row(self, row: dict[str, object]) -> None:
        """One call of `wandb.log`, at the optimizer's step where rows tell it, else at the count of calls."""
        told = next((step for key in foreign.STEP_KEYS if (step := foreign.whole(row.get(key))) is not None), None)
        if told is not None:
            self._step = told
        step = self._step if self._step is not None else foreign.whole(row.get("_step")) or 0
        when = foreign.number(row.get("_timestamp")) or self._started
        metrics = {key: value for key, value in row.items() if key not in (*OWN, *foreign.STEP_KEYS)}
        self._gathered.add_all(
            step, when, ((self._names(key), value) for key, value in foreign.numbers(metrics).items())
        )


def _records(path: Path, offset: int) -> wandb_log.Records:
    try:
        if offset == 0 and path.stat().st_size >= wandb_log.BEGIN and not wandb_log.is_log(path):
            raise Problem(
                f"{path} is not a wandb run",
                "It does not begin as the logs do that wandb 0.13 and later write.",
                code="import",
            )
        return wandb_log.read(path, offset)
    except OSError as error:
        raise Problem(f"{path} cannot be read", f"{error.strerror}.", code="import") from error


def _items(message: bytes) -> Iterator[tuple[str, object]]:
    """Keys and values of a HistoryRecord's items or a ConfigRecord's updates, nested keys joined with dots."""
    for number, item in wire.fields(message):
        if number != 1:
            continue
        keys: list[str] = []
        value: object = None
        for each, found in wire.fields(wire.inside(item)):
            if each in (1, 2):
                keys.append(wire.text(found))
            elif each == 16:
                value = foreign.parsed(wire.inside(found))  # NaN and Infinity among them
        if keys:
            yield ".".join(keys), value
