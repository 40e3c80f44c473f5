"""Suites: questions with known answers, one JSON object a line.

Keys of an item: `id`, `prompt`, `variants` (paraphrases of the prompt), `answer` (a string or a list of accepted ones),
`choices` (the answer is one of these), `system`, `trap` (true: the question is about something that does not exist;
false: its real twin), `twin` (the id of the item of the same form about a real thing), `row` (the id of the data row it
was made from).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.errors import Problem, closest
from engine.ledger.runs import Run
from engine.places import shipped

KEYS: Final = ("id", "prompt", "variants", "answer", "choices", "system", "trap", "twin", "row")
NAMED: Final = 5  # items that a message names before it says "and so many more"


@dataclass(frozen=True)
class SuiteItem:
    """One question. `answer` holds accepted answers, the preferred one first; empty where none is right."""

    id: str
    prompt: str
    variants: tuple[str, ...] = ()
    answer: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    system: str = ""
    trap: bool | None = None
    twin: str | None = None
    row: str | None = None

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompt and its paraphrases: place 0 is the prompt itself."""
        return (self.prompt, *self.variants)


@dataclass(frozen=True)
class Suite:
    """A suite file as read. `fingerprint` is the SHA-256 of its bytes."""

    name: str
    items: tuple[SuiteItem, ...]
    fingerprint: str


def find_suite(name: str, run_folder: Path | None) -> Path:
    """The file of a suite given by path, by the name of one in the run's folder (`test` is what the run held out), or
    of one that ships.

    Raises:
        Problem: there is none of that name.
    """
    path = Path(name).expanduser()
    if path.suffix == ".jsonl" or len(path.parts) > 1:
        if path.is_file():
            return path.absolute()
        raise Problem(f"There is no suite file {path}", do="Give a .jsonl file or the name of a suite.", code="suite")
    folders = [shipped() / "suites"] if run_folder is None else [run_folder / "suites", shipped() / "suites"]
    for folder in folders:
        if (folder / f"{name}.jsonl").is_file():
            return folder / f"{name}.jsonl"
    if name == "test":
        raise Problem(
            "There is no suite test for this run",
            "The run held no rows out, or has not prepared its data yet.",
            "Train with split.test set, for example --set split.test=0.1",
            code="suite",
        )
    known = known_suites(run_folder)
    raise Problem(f"There is no suite {name}{closest(name, known)}", do=f"Known: {', '.join(known)}", code="suite")


def from_anywhere(name: str) -> str:
    """A suite's name as it is, a file's made absolute: a job works in another folder than the one it was named in."""
    path = Path(name).expanduser()
    return str(path.absolute()) if path.suffix == ".jsonl" or len(path.parts) > 1 else name


def known_suites(run_folder: Path | None) -> list[str]:
    """Names that `find_suite` finds: the run's own first, then those that ship."""
    own = sorted(path.stem for path in (run_folder / "suites").glob("*.jsonl")) if run_folder else []
    return [*own, *(name for path in sorted((shipped() / "suites").glob("*.jsonl")) if (name := path.stem) not in own)]


def read_suite(path: Path) -> Suite:
    """The suite in a JSONL file.

    Raises:
        Problem: it cannot be read or is empty; a line is broken, has an unknown key or a wrong type; ids repeat; a twin
            is missing.
    """
    try:
        raw = path.read_bytes()
        lines = raw.decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"{path} cannot be read as a suite", f"{error}.", code="suite") from error
    items: list[SuiteItem] = []
    first_line: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        item = _item(_object(line, where), where)
        if item.id in first_line:
            raise Problem(f"{where}: id {item.id} is taken", f"Line {first_line[item.id]} has it.", code="suite")
        first_line[item.id] = number
        items.append(item)
    if not items:
        raise Problem(f"{path} holds no items", do="Write one JSON object a line: id, prompt, answer.", code="suite")
    _check_twins(items, path, first_line)
    return Suite(path.stem, tuple(items), hashlib.sha256(raw).hexdigest())


def check_overlap(suite: Suite, run: Run) -> None:
    """Refuse a suite that the run has seen in training, by row id or by normalised prompt.

    Raises:
        Problem: at least one of its items is in the run's training rows; names how many and which.
    """
    if not (run.folder / "prepared" / "rows.json").is_file():
        return  # nothing was trained on yet, or the folder is elsewhere: the job that has it checks again
    from engine.data.prepare import prompt_hash, training_prompts

    ids, hashes = training_prompts(run.folder)
    seen = [
        item.id
        for item in suite.items
        if (item.row is not None and item.row in ids)
        or not hashes.isdisjoint(prompt_hash(prompt) for prompt in item.prompts)
    ]
    if seen:
        more = f" and {len(seen) - NAMED} more" if len(seen) > NAMED else ""
        raise Problem(
            f"Suite {suite.name} is refused: {len(seen)} of its {len(suite.items)} items"
            f" are in the training rows of {run.name}",
            f"Items {', '.join(seen[:NAMED])}{more}: a model that has seen the answers proves nothing.",
            "Use the suite test (the rows the run held out), or take these items out.",
            code="overlap",
        )


def _object(line: str, where: str) -> dict[str, object]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise Problem(f"{where}: this is not JSON", f"{error.msg} at column {error.colno}.", code="suite") from error
    if not isinstance(value, dict):
        raise Problem(f"{where}: found {type(value).__name__}; should be an object in {{}}", code="suite")
    return value


def _item(values: Mapping[str, object], where: str) -> SuiteItem:
    for key in values:
        if key not in KEYS:
            near = closest(key, KEYS) or f"; allowed are {', '.join(KEYS)}"
            raise Problem(f"{where}: unknown key {key}{near}", code="suite")
    trap = values.get("trap")
    if trap is not None and not isinstance(trap, bool):
        raise Problem(f"{where}: trap: found {trap!r}; should be true or false", code="suite")
    item = SuiteItem(
        id=_text(values, "id", where, needed=True),
        prompt=_text(values, "prompt", where, needed=True),
        variants=_texts(values, "variants", where),
        answer=_texts(values, "answer", where),
        choices=_texts(values, "choices", where),
        system=_text(values, "system", where),
        trap=trap,
        twin=_text(values, "twin", where) or None,
        row=_text(values, "row", where) or None,
    )
    if item.choices and len(set(item.choices)) < 2:
        raise Problem(f"{where}: choices: should be at least two different ones", code="suite")
    if item.choices and (strange := [answer for answer in item.answer if answer not in item.choices]):
        raise Problem(f"{where}: answer {strange[0]!r} is none of the choices {', '.join(item.choices)}", code="suite")
    return item


def _text(values: Mapping[str, object], key: str, where: str, *, needed: bool = False) -> str:
    value = values.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and key in ("id", "row", "twin"):
        return str(value)
    if value is None and not needed:
        return ""
    if not isinstance(value, str) or (needed and not value.strip()):
        found = "nothing" if value is None else repr(value)
        raise Problem(f"{where}: {key}: found {found}; should be text", code="suite")
    return value


def _texts(values: Mapping[str, object], key: str, where: str) -> tuple[str, ...]:
    value = values.get(key)
    if value is None:
        return ()
    several = [value] if isinstance(value, str) else value
    if not isinstance(several, list) or not all(isinstance(text, str) and text.strip() for text in several):
        raise Problem(f"{where}: {key}: found {value!r}; should be text or a list of texts", code="suite")
    return tuple(several)


def _check_twins(items: list[SuiteItem], path: Path, lines: Mapping[str, int]) -> None:
    by_id = {item.id: item for item in items}
    for item in items:
        where = f"{path}:{lines[item.id]}"
        if item.twin is not None and item.twin not in by_id:
            raise Problem(f"{where}: twin {item.twin} is not in this suite", code="suite")
        if item.trap and (item.twin is None or by_id[item.twin].trap is not False):
            raise Problem(
                f"{where}: trap {item.id} has no twin",
                "Without a real thing of the same form, always refusing would look best.",
                'Name an item with "trap": false in "twin".',
                code="suite",
            )
