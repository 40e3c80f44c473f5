"""From a profile to what training reads: every row divided, rendered and tokenised once, kept in the run's folder.

`prepare` writes, `load` reads back. `prepared/rows.json` is written last: where it stands, everything else does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import orjson
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from engine.atomic import write_bytes
from engine.data.check import render_findings
from engine.data.division import Division, divide
from engine.data.finding import Finding, Tally
from engine.data.hub_source import copy_path, download, is_hub_id
from engine.data.mapped import open_mapped
from engine.data.question import prompt_hash
from engine.data.render import Renderer
from engine.data.tokenizer import ModelTokenizer, load_tokenizer
from engine.errors import Problem
from engine.places import private_folder
from engine.profile import Profile

__all__ = ["Prepared", "Tokens", "auto_max_tokens", "load", "prepare", "prompt_hash", "training_prompts"]

AUTO_ROWS: Final = 20_000  # evenly spaced rows whose lengths decide max_tokens = auto
AUTO_PERCENTILE: Final = 99
SHORTEST: Final = 16  # what a profile allows at least


@dataclass(frozen=True)
class Tokens:
    """Rows one after the other: row i is `ids[starts[i]:starts[i + 1]]`.

    An example is `per_example` rows: one, or for preferences two, the chosen response's and after it the rejected one's.
    """

    ids: NDArray[np.int32]  # [tokens]
    supervised: NDArray[np.bool_]  # [tokens]: the loss counts it
    starts: NDArray[np.int64]  # [rows + 1]
    row_ids: tuple[str, ...]
    per_example: int = 1

    def __len__(self) -> int:
        """Rows."""
        return len(self.row_ids)

    @property
    def examples(self) -> int:
        """Examples: what an effective batch is counted in."""
        return len(self.row_ids) // self.per_example


@dataclass(frozen=True)
class Prepared:
    """What training reads. `max_tokens` is the most that an example may have; `fingerprint` is of the data's bytes."""

    train: Tokens
    validation: Tokens
    test_rows: int
    fingerprint: str
    max_tokens: int
    findings: tuple[Finding, ...]


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
    renderer = Renderer(tokenizer, settings.template, settings.training.loss_on, limit)
    division = divide(settings)
    parts = division.parts
    done = _Progress(len(parts.train) + len(parts.validation) + len(parts.test), progress)
    tally = Tally()
    hashes: set[str] = set()
    train = _tokens(division, renderer, parts.train, tally, done, hashes)
    if not len(train):
        raise Problem(
            "No row is left to train on",
            f"All {len(parts.train):,} are dropped: {'; '.join(finding.sentence for finding in tally.findings())}.",
            f"Raise template.max_tokens (it is {limit:,}), or look at the rows on the Data screen.",
            code="data",
        )
    validation = _tokens(division, renderer, parts.validation, tally, done)
    items = [item for row in parts.test if (item := _item(division, renderer, row, tally, done))]
    prepared = Prepared(
        train, validation, len(items), division.fingerprint, limit, (*division.findings, *tally.findings())
    )
    _write(prepared, folder, items, hashes)
    return prepared


def auto_max_tokens(settings: Profile, tokenizer: ModelTokenizer) -> int:
    """The 99th percentile of the examples' lengths in tokens, over at most 20,000 evenly spaced rows, within the model's window.

    Raises:
        Problem: missing data or columns, a broken row.
    """
    sources = [open_mapped(data, settings.template) for data in settings.data]
    renderer = Renderer(tokenizer, settings.template)
    total = sum(map(len, sources))
    lengths: list[int] = []
    for source in sources:
        count = min(len(source), max(1, AUTO_ROWS * len(source) // total))
        for number in np.linspace(0, len(source) - 1, count).astype(int):
            lengths.append(len(renderer.render(source.example(int(number))).ids))
    most = int(np.percentile(lengths, AUTO_PERCENTILE, method="higher"))
    return max(SHORTEST, min(most, tokenizer.max_length or most))


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
            train=_load_tokens(place / "train.safetensors", said["train"]),
            validation=_load_tokens(place / "validation.safetensors", said["validation"]),
            test_rows=said["test_rows"],
            fingerprint=said["fingerprint"],
            max_tokens=said["max_tokens"],
            findings=findings,
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


def _tokens(
    division: Division,
    renderer: Renderer,
    rows: Iterable[int],
    tally: Tally,
    done: _Progress,
    hashes: set[str] | None = None,
) -> Tokens:
    """Rows rendered; with `hashes` they are training rows: repeated by their weight, their prompts' hashes collected."""
    ids: list[NDArray[np.int32]] = []
    supervised: list[NDArray[np.bool_]] = []
    names: list[str] = []
    for row in rows:
        example = division.example(row)
        rendered = renderer.render(example)
        for found in render_findings(rendered):
            tally.add(found, row + 1)
        if not rendered.dropped:
            times = 1 if hashes is None else division.repeats[row]
            ids += [np.array(rendered.ids, np.int32)] * times
            supervised += [np.array(rendered.supervised, np.bool_)] * times
            names += [example.id] * times
            if hashes is not None:
                asked = [turn.content for turn in example.messages if turn.role == "user"]
                hashes.update(map(prompt_hash, (*asked, renderer.cut_prompt(example, rendered))))
        done.step()
    starts = np.concatenate([[0], np.cumsum([len(part) for part in ids], dtype=np.int64)]).astype(np.int64)
    return Tokens(
        np.concatenate(ids) if ids else np.empty(0, np.int32),
        np.concatenate(supervised) if supervised else np.empty(0, np.bool_),
        starts,
        tuple(names),
    )


def _item(division: Division, renderer: Renderer, row: int, tally: Tally, done: _Progress) -> dict[str, object] | None:
    """A held-out row as a suite item that asks exactly what training would have asked; None for a row without question or response.

    Of a conversation of several turns the first question and its response are taken.
    """
    example = division.example(row)
    rendered = renderer.render(example)
    done.step()
    questions = [turn.content for turn in example.messages if turn.role == "user"]
    responses = [turn.content for turn in example.messages if turn.role == "assistant"]
    if not questions or not questions[0].strip() or not responses or not responses[0].strip():
        tally.add("empty_output", row + 1)
        return None
    cut = len(questions) == 1 and not rendered.dropped
    return {
        "id": example.id,
        "prompt": renderer.cut_prompt(example, rendered) if cut else questions[0],
        "answer": example.label if example.label and division.choices else responses[0],
        "choices": list(division.choices) if example.label else [],
        "system": example.system or renderer.template.system,
        "row": example.id,
    }


def _write(prepared: Prepared, folder: Path, items: list[dict[str, object]], hashes: set[str]) -> None:
    place = private_folder(folder / "prepared")
    write_bytes(place / "train.safetensors", _dump_tokens(prepared.train))
    write_bytes(place / "validation.safetensors", _dump_tokens(prepared.validation))
    if items:
        suite = private_folder(folder / "suites") / "test.jsonl"
        write_bytes(suite, b"".join(orjson.dumps(item, option=orjson.OPT_APPEND_NEWLINE) for item in items))
    said = {
        "fingerprint": prepared.fingerprint,
        "max_tokens": prepared.max_tokens,
        "test_rows": prepared.test_rows,
        "findings": [asdict(finding) for finding in prepared.findings],
        "train": prepared.train.row_ids,
        "validation": prepared.validation.row_ids,
        "prompt_hashes": sorted(hashes),
    }
    write_bytes(place / "rows.json", orjson.dumps(said))


def _dump_tokens(tokens: Tokens) -> bytes:
    return save_arrays({"ids": tokens.ids, "supervised": tokens.supervised, "starts": tokens.starts})


def _load_tokens(path: Path, row_ids: list[str]) -> Tokens:
    arrays = load_arrays(path.read_bytes())
    return Tokens(arrays["ids"], arrays["supervised"], arrays["starts"], tuple(row_ids))
