"""What all the sources in a folder tell of the newest training in it, since they were asked last.

A folder may have been trained into before. A session (a folder of event files) that begins at or before the first step of the one
before it is another run; one that begins later went on from a checkpoint. States and output that were last written before the
newest training began are not its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from engine.errors import Problem
from engine.ledger.exchange.imported import Imported, Points, Reader
from engine.ledger.exchange.tensorboard import EventFolder
from engine.ledger.exchange.trainer import OutputFolder
from engine.ledger.exchange.wandb import OfflineRun
from engine.ledger.states import State
from engine.watching.combining import Source
from engine.watching.folder import Lying, look
from engine.watching.text_log import TextLog

ENDED: Final = "train/train_runtime"  # Trainer logs it once, when it has trained to its end
LENIENT: Final = 60.0  # seconds between the start of a tracker and that of the output that belongs to it


@dataclass(frozen=True)
class Heard:
    """The newest training in a folder; `points` are new since the last look, the rest is all that is known.

    `identity` names the training by each tracker's own, `uids` are those that its parts would be imported under. `at` is the newest
    step that a tracker told of, `step` where a progress bar stands, `steps` how many it will be. `trained`: Trainer has said that it is
    done; `ended` and `cause` are what a tracker wrote of its end; `raised` is the exception that ended the output. `newest` is when any
    of it was last written, `tracked` when anything but output was, in seconds since the epoch. `others` counts runs in the folder that
    came before. `begun`: a tracker has begun a session behind others and not told a step, so that nobody knows whether it goes on with
    theirs.
    """

    lying: Lying = field(default_factory=Lying)
    identity: Mapping[str, str] = field(default_factory=dict)
    uids: frozenset[str] = frozenset()
    created: float | None = None
    points: tuple[tuple[Source, Mapping[str, Points]], ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, object] = field(default_factory=dict)
    gpu: str = ""
    at: int = 0
    step: int = 0
    steps: int | None = None
    trained: bool = False
    ended: State | None = None
    cause: str = ""
    raised: str = ""
    newest: float = 0.0
    tracked: float = 0.0
    others: int = 0
    begun: bool = False
    troubles: tuple[str, ...] = ()


@dataclass(eq=False)
class _Session:
    """A tracker's reader, the first step that it told of, and what it told last."""

    source: Source
    reader: Reader
    first: int | None = None
    last: Imported | None = None
    ended: int = -1  # the step at which Trainer said that it was done
    newest: int = -1


class Sources:
    """The sources of one folder, followed as they grow; `text` is a file of output that lies elsewhere."""

    def __init__(self, folder: Path, text: Path | None = None) -> None:
        self._folder = folder
        self.text = text
        self.elsewhere: set[Path] = set()  # trackers' files that the program has open in other folders
        self._sessions: dict[Path, _Session] = {}
        self._texts: dict[Path, TextLog] = {}

    def read(self) -> Heard:
        """What is known now, with the points that came since the last call.

        Raises:
            Problem: a source can no longer be read.
        """
        lying = look(self._folder, self.elsewhere)
        boards = [self._session("tensorboard", path) for path in lying.events]
        offline = [self._session("wandb", path) for path in lying.wandb]
        tracked = [*self._newest(boards, _begins_anew), *self._newest(offline, _is_another)]
        created = min((told.created for each in tracked if (told := each.last)), default=None)
        saved = [file for file in lying.states if created is None or file.stat().st_mtime > created - LENIENT]
        for file in saved:
            if whole := self._newest([self._session("trainer", file)], _is_another):
                tracked += whole
                break
        heard = _together(tracked)
        if created is None and heard.created is not None:
            created = heard.created
        begun = _only_begun(boards) or _only_begun(offline)
        heard = self._with_text(replace(heard, lying=lying, created=created, others=self._others(tracked), begun=begun))
        tracks = _written([*_inside(lying.events), *lying.wandb, *saved[:1]])
        return replace(heard, tracked=tracks, newest=max(tracks, _written(self._texts)))

    def _session(self, source: Source, path: Path) -> _Session:
        if path not in self._sessions:
            self._sessions[path] = _Session(source, _reader(source, path))
        return self._sessions[path]

    def _newest(self, sessions: list[_Session], is_another: Callable[[_Session, _Session], bool]) -> list[_Session]:
        """Those of the newest run, after a look at each; of a step that two of them have the later one's point counts."""
        for session in sessions:
            _read(session)
        known = [session for session in sessions if session.last is not None]
        start = 0
        for place in range(1, len(known)):
            if is_another(known[start], known[place]):
                start = place
        group = known[start:]
        for place, session in enumerate(group):
            later = [other.first for other in group[place + 1 :] if other.first is not None]
            if later and session.last is not None:
                session.last = replace(session.last, points=_before(session.last.points, min(later)))
        return group

    def _others(self, tracked: list[_Session]) -> int:
        """Runs of trackers that are not the newest."""
        known = [each for each in self._sessions.values() if each.source != "trainer" and each.last is not None]
        return len([each for each in known if each not in tracked])

    def _with_text(self, heard: Heard) -> Heard:
        """And what the newest file of output says."""
        since = heard.created - LENIENT if heard.created is not None else 0.0
        candidates = [self.text] if self.text is not None else list(heard.lying.texts)
        found = [file for file in candidates if file.is_file() and file.stat().st_mtime > since]
        if not found:
            return heard
        newest = max(found, key=lambda file: file.stat().st_mtime)
        log = self._texts.setdefault(newest, TextLog(newest))
        try:
            told = log.read()
        except OSError as error:
            raise Problem(f"{newest} cannot be read", f"{error.strerror}.", code="watch") from error
        troubles = heard.troubles
        if told.unplaced and not heard.identity:
            troubles += (
                f"{newest.name}: {told.unplaced:,} lines of figures were left out: their step is not known, because the output "
                "was held back. With PYTHONUNBUFFERED=1 it is not.",
            )
        return replace(
            heard,
            points=(*heard.points, ("text", told.points)),
            step=max(heard.step, told.step or 0),
            steps=heard.steps or told.steps,
            trained=heard.trained or told.finished,
            raised=told.raised,
            troubles=troubles,
        )


def _reader(source: Source, path: Path) -> Reader:
    match source:
        case "tensorboard":
            return EventFolder(path, path.name)
        case "wandb":
            return OfflineRun(path)
        case _:
            return OutputFolder(path)


def _only_begun(sessions: Sequence[_Session]) -> bool:
    """Whether the newest session has told no step yet, and one before it has."""
    return bool(sessions) and sessions[-1].newest < 0 <= max(each.newest for each in sessions)


def _begins_anew(first: _Session, later: _Session) -> bool:
    return first.first is not None and later.first is not None and later.first <= first.first


def _is_another(first: _Session, later: _Session) -> bool:
    return first.last is not None and later.last is not None and first.last.uid != later.last.uid


def _read(session: _Session) -> None:
    told = session.reader.read()
    session.last = told
    if told is None:
        return
    steps = [(int(each.steps[0]), int(each.steps[-1])) for each in told.points.values() if len(each.steps)]
    if steps:
        low = min(first for first, _ in steps)
        session.first = low if session.first is None else min(session.first, low)
        session.newest = max(session.newest, max(last for _, last in steps))
    if ENDED in told.points:
        session.ended = int(told.points[ENDED].steps[-1])


def _before(points: Mapping[str, Points], step: int) -> dict[str, Points]:
    """The points below a step."""
    cut = {key: each.steps < step for key, each in points.items()}
    return {
        key: Points(each.steps[cut[key]], each.times[cut[key]], each.values[cut[key]]) for key, each in points.items()
    }


def _together(sessions: Sequence[_Session]) -> Heard:
    """What the sessions of one run tell; of what several tell the first in the list has the say."""
    newest = max((each.newest for each in sessions), default=-1)
    ended = max((each.ended for each in sessions), default=-1)
    # The last session of the best tracker: one that went on from a checkpoint may be behind what came before.
    latest = [each.newest for each in sessions if each.source == sessions[0].source and each.newest >= 0]
    heard = Heard(at=latest[-1] if latest else 0, trained=0 <= newest <= ended)
    for session in sessions:
        told = session.last
        if told is None:
            continue
        heard = replace(
            heard,
            identity={session.source: told.uid, **heard.identity},
            uids=heard.uids | {told.uid},
            created=told.created if heard.created is None else min(heard.created, told.created),
            points=(*heard.points, (session.source, told.points)),
            settings={**told.settings, **heard.settings},
            environment={**told.environment, **heard.environment},
            gpu=heard.gpu or told.gpu,
            steps=told.steps or heard.steps,
            ended=told.state or heard.ended,
            cause=told.cause or heard.cause,
            troubles=(*heard.troubles, *told.troubles),
        )
    return heard


def _written(files: Iterable[Path]) -> float:
    """When the newest of them was last written, in seconds since the epoch; 0 for none."""
    return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)


def _inside(folders: Iterable[Path]) -> list[Path]:
    return [file for folder in folders for file in folder.glob("*tfevents.*")]
