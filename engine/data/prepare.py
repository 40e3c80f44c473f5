"""From a profile to what training reads: every row divided, rendered and tokenised once, kept in the run's folder.

`prepare` writes, `load` reads back. `prepared/rows.json` is written last: where it stands, everything else does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import orjson
from safetensors import SafetensorError

from engine import profile
from engine.atomic import write_bytes
from engine.data.check import pad_is_eos, render_findings
from engine.data.division import Division, divide
from engine.data.finding import Finding, Tally
from engine.data.hub_source import copy_path, download, is_hub_id
from engine.data.limits import auto_max_tokens
from engine.data.mapping import PREFERENCE
from engine.data.question import prompt_hash
from engine.data.rendered import Sampler
from engine.data.sampler import sampler
from engine.data.sources import open_source
from engine.data.tokenizer import load_tokenizer
from engine.data.tokens import Tokens, TokensInTheMaking, dump_tokens, load_tokens
from engine.errors import Problem
from engine.places import private_folder
from engine.profile import Profile

__all__ = [
    "Prepared",
    "Tokens",
    "auto_max_tokens",
    "changed_sources",
    "load",
    "prepare",
    "prompt_hash",
    "training_prompts",
]

TOO_LONG: Final = {"answer_truncated", "prompt_fills_window", "too_long"}  # findings that more tokens would mend


@dataclass(frozen=True)
class Prepared:
    """What training reads. `max_tokens` is the most that a row may have; `fingerprint` is of the data's bytes, `sources` of each source's."""

    train: Tokens
    validation: Tokens
    test_rows: int
    fingerprint: str
    max_tokens: int
    findings: tuple[Finding, ...]
    sources: tuple[tuple[str, str], ...] = ()


def prepare(settings: Profile, folder: Path, progress: Callable[[int, int], None] | None = None) -> Prepared:
    """Divide, render and tokenise a resolved profile's data into the run's folder; `progress` gets rows done and all rows.

    Writes `prepared/{train,validation}.safetensors`, `suites/test.jsonl` where rows are held out, and `prepared/rows.json`, each atomically.
    May import `datasets` where a source is on the hub, so it belongs into a job.

    Raises:
        Problem: anything wrong with data, model or template; no row left to train on; the disk is full.
    """
    tokenizer = load_tokenizer(settings.model.base, settings.model.revision)
    _download_missing(settings)
    most = settings.template.max_tokens
    limit = auto_max_tokens(settings, tokenizer) if most == "auto" else most
    making = sampler(tokenizer, settings.template, settings.training, limit)
    division = divide(settings)
    parts = division.parts
    tally = Tally()
    done = _Progress(len(parts.train) + len(parts.validation) + len(parts.test), progress)
    work = _Work(division, making, tally, done, 2 if settings.training.objective in PREFERENCE else 1)
    hashes: set[str] = set()
    train = _tokens(work, parts.train, hashes)
    if not len(train):
        found = tally.findings()
        is_length = any(finding.id in TOO_LONG for finding in found)
        remedy = f"raise template.max_tokens (it is {limit:,})" if is_length else "change them or template.name"
        raise Problem(
            "No row is left to train on",
            f"All {len(parts.train):,} are dropped: {'; '.join(finding.sentence for finding in found)}.",
            f"Look at the rows with `workbench data`, or {remedy}.",
            code="data",
        )
    validation = _tokens(work, parts.validation)
    system = settings.template.system
    items = [item for row in parts.test if (item := _item(work, row, system))]
    if pad_is_eos(tokenizer):
        tally.add("pad_is_eos", None)
    prepared = Prepared(
        train,
        validation,
        len(items),
        division.fingerprint,
        limit,
        (*division.findings, *tally.findings()),
        tuple(
            (data.source, source.source.fingerprint)
            for data, source in zip(settings.data, division.sources, strict=False)
        ),
    )
    _write(prepared, folder, items, hashes)
    return prepared


def changed_sources(settings: Profile, prepared: Prepared) -> tuple[str, ...]:
    """The sources whose bytes are others now than when the data were prepared, or which cannot be read any more.

    A run goes on with what it prepared; this is for saying so. Reads the files once.
    """
    then = dict(prepared.sources)
    return tuple(
        data.source for data in settings.data if data.source in then and _fingerprint(data) != then[data.source]
    )


def _fingerprint(data: profile.Data) -> str:
    try:
        return open_source(data).fingerprint
    except (Problem, OSError):
        return ""


def load(folder: Path) -> Prepared:
    """What `prepare` wrote into a run's folder.

    Raises:
        Problem: it is not there or damaged (code `data`).
    """
    place = folder / "prepared"
    try:
        said = orjson.loads((place / "rows.json").read_bytes())
        findings = tuple(Finding(**{**found, "rows": tuple(found["rows"])}) for found in said["findings"])
        return Prepared(
            train=load_tokens(place / "train.safetensors", said["train"], said["per_example"]),
            validation=load_tokens(place / "validation.safetensors", said["validation"], said["per_example"]),
            test_rows=said["test_rows"],
            fingerprint=said["fingerprint"],
            max_tokens=said["max_tokens"],
            findings=findings,
            sources=tuple((name, fingerprint) for name, fingerprint in said["sources"]),
        )
    except (OSError, orjson.JSONDecodeError, SafetensorError, KeyError, TypeError) as error:
        raise _not_prepared(folder, error) from error


def training_prompts(folder: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Ids and prompt hashes of the rows that a run trained on.

    Raises:
        Problem: nothing was prepared there (code `data`).
    """
    try:
        said = orjson.loads((folder / "prepared" / "rows.json").read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise _not_prepared(folder, error) from error
    return frozenset(said["train"]), frozenset(said["prompt_hashes"])


def _not_prepared(folder: Path, error: Exception) -> Problem:
    return Problem(f"The prepared data in {folder} cannot be read", f"{error}.", "Start the run again.", code="data")


def _download_missing(settings: Profile) -> None:
    test = settings.split.test
    sources = list(settings.data)
    if isinstance(test, str) and test.startswith("split:"):
        sources.append(settings.data[0].model_copy(update={"split": test.removeprefix("split:")}))
    for data in sources:
        if is_hub_id(data.source) and not copy_path(data).is_file():
            download(data)


class _Progress:
    """Counts rows and says so now and then."""

    def __init__(self, total: int, tell: Callable[[int, int], None] | None) -> None:
        self.done = 0
        self.total = total
        self.tell = tell

    def step(self) -> None:
        self.done += 1
        if self.tell and (self.done % 100 == 0 or self.done == self.total):
            self.tell(self.done, self.total)


@dataclass(frozen=True)
class _Work:
    """What every row needs. An example of preferences is `per_example` = 2 rows."""

    division: Division
    sampler: Sampler
    tally: Tally
    done: _Progress
    per_example: int


def _tokens(work: _Work, rows: Iterable[int], hashes: set[str] | None = None) -> Tokens:
    """Rows as samples; with `hashes` they are training rows: repeated by their weight, their prompts' hashes collected."""
    made = TokensInTheMaking(work.per_example)
    for row in rows:
        times = 1 if hashes is None else work.division.repeats[row]
        work.done.step()
        if not times:
            continue
        example = work.division.example(row)
        samples = work.sampler.samples(example)
        for found in dict.fromkeys(found for rendered in samples for found in render_findings(rendered)):
            work.tally.add(found, row + 1)
        kept = [rendered for rendered in samples if not rendered.dropped]
        for _ in range(times):
            made.add(kept, example.id)
        if hashes is not None and kept:
            asked = [turn.content for turn in example.messages if turn.role == "user"]
            cut = [work.sampler.cut_prompt(example, rendered) for rendered in kept]
            hashes.update(map(prompt_hash, (*asked, *cut)))
    return made.done()


def _item(work: _Work, row: int, system: str) -> dict[str, object] | None:
    """A held-out row as a suite item that asks exactly what training would have asked; None for a row without question or response.

    Of a conversation of several turns the first question and its response are taken, of preferences the chosen one. A suite has no tools.
    """
    example = work.division.example(row)
    work.done.step()
    if example.text is not None or example.tools or any(turn.calls for turn in example.messages):
        work.tally.add("not_asked", row + 1)
        return None
    rendered = work.sampler.samples(example)[0]
    questions = [turn.content for turn in example.messages if turn.role == "user"]
    responses = [turn.content for turn in example.messages if turn.role == "assistant"]
    if not questions or not questions[0].strip() or not responses or not responses[0].strip():
        work.tally.add("empty_output", row + 1)
        return None
    cut = len(questions) == 1 and not rendered.dropped
    choices = work.division.choices
    return {
        "id": example.id,
        "prompt": work.sampler.cut_prompt(example, rendered) if cut else questions[0],
        "answer": example.label if example.label and choices else responses[0],
        "choices": list(choices) if example.label else [],
        "system": example.system or system,
        "row": example.id,
    }


def _write(prepared: Prepared, folder: Path, items: list[dict[str, object]], hashes: set[str]) -> None:
    place = private_folder(folder / "prepared")
    write_bytes(place / "train.safetensors", dump_tokens(prepared.train))
    write_bytes(place / "validation.safetensors", dump_tokens(prepared.validation))
    if items:
        suite = private_folder(folder / "suites") / "test.jsonl"
        write_bytes(suite, b"".join(orjson.dumps(item, option=orjson.OPT_APPEND_NEWLINE) for item in items))
    said = {
        "fingerprint": prepared.fingerprint,
        "max_tokens": prepared.max_tokens,
        "test_rows": prepared.test_rows,
        "findings": [asdict(finding) for finding in prepared.findings],
        "sources": prepared.sources,
        "per_example": prepared.train.per_example,
        "train": prepared.train.row_ids,
        "validation": prepared.validation.row_ids,
        "prompt_hashes": sorted(hashes),
    }
    write_bytes(place / "rows.json", orjson.dumps(said))
