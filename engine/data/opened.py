"""Data as they are looked at: sources opened and mapped, and the renderer of a base model where one was chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine import profile as profiles
from engine import profile_file
from engine.data.division import divide
from engine.data.examples import Example
from engine.data.finding import Finding, worst_first
from engine.data.hub_source import is_hub_id
from engine.data.limits import auto_max_tokens
from engine.data.mapped import MappedSource, open_mapped
from engine.data.mapping import likely_objective
from engine.data.mixing import Part
from engine.data.rendered import Rendered, Sampler
from engine.data.report import DataReport, summarise
from engine.data.sampler import sampler
from engine.data.scan import Measured, scan
from engine.data.sources import open_source
from engine.data.tokenizer import load_tokenizer
from engine.errors import Problem
from engine.profile import Profile

_NO_MODEL: Final = "-"


@dataclass(frozen=True)
class Opened:
    """Sources and how they are seen.

    `renderer` renders at full length, `fitted` within `limit`; both are None where no base model was chosen. `settings` is the profile that
    the data were opened with; without a profile its base is a dash.
    """

    name: str
    sources: tuple[MappedSource, ...]
    settings: Profile
    has_profile: bool
    measured: Measured
    renderer: Sampler | None = None
    fitted: Sampler | None = None
    limit: int | None = None

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    def place(self, row: int) -> tuple[MappedSource, int]:
        """The source that holds row `row` (from 0), and which of its rows it is."""
        for source in self.sources:
            if row < len(source):
                return source, row
            row -= len(source)
        raise IndexError(row)

    def example(self, row: int) -> Example:
        """Row `row` as an example.

        Raises:
            Problem: the row is broken.
        """
        source, number = self.place(row)
        return source.example(number)

    def raw(self, row: int) -> str:
        """Row `row` as it stands in its file."""
        source, number = self.place(row)
        return source.source.raw(number)

    def samples(self, example: Example) -> tuple[Rendered, ...]:
        """The example as training would see it: one sequence or more.

        Raises:
            Problem: the template refuses it.
        """
        renderer = self.fitted or self.renderer
        assert renderer is not None
        return renderer.samples(example)


def asked(source: str, settings: Profile | None = None) -> Profile:
    """The profile by which `source` is seen: `settings` with this source alone, mapped as the profile maps one of that name, else its first.

    Without a source all of the profile's; without a profile one that names no base. A source may itself be a profile (.toml).

    Raises:
        Problem: that profile cannot be read or is wrong.
    """
    if settings is None:
        if source.endswith(".toml"):
            return profile_file.read(Path(source).expanduser())
        return Profile(model=profiles.Model(base=_NO_MODEL), data=(profiles.Data(source=source),))
    if not source:
        return settings
    same = [data for data in settings.data if Path(data.source).name == Path(source).name]
    place = source if is_hub_id(source) else str(Path(source).expanduser())
    data = (same or settings.data)[0].model_copy(update={"source": place})
    return settings.model_copy(update={"data": (data,)})


def open_data(source: str, settings: Profile | None = None) -> Opened:
    """Open a data file, folder, glob or downloaded hub data set, or all data of a profile (see `asked`).

    Raises:
        Problem: it cannot be opened, or the profile is wrong.
    """
    seen = asked(source, settings)
    if seen.model.base == _NO_MODEL:  # no profile says what the data are for, so their columns do
        objective = likely_objective(open_source(seen.data[0]).columns)
        seen = seen.model_copy(update={"training": profiles.Training(objective=objective)})
    sources = tuple(open_mapped(data, seen.template, seen.training.objective) for data in seen.data)
    name = sources[0].source.name if len(sources) == 1 else Path(source).stem
    has_profile = seen.model.base != _NO_MODEL
    return Opened(name, sources, seen, has_profile, Measured.of(sum(map(len, sources))))


def with_base(opened: Opened, base: str = "") -> Opened:
    """The data as seen by a base model; by the profile's own when none is named. Reads all rows where max_tokens is auto.

    A model that is named in place of the profile's, and has no chat template, gets the plain one.

    Raises:
        Problem: unknown or gated model, no network, no such template.
    """
    settings = opened.settings
    if base:
        settings = settings.model_copy(update={"model": profiles.Model(base=base)})
    if settings.model.base == _NO_MODEL:
        return opened
    tokenizer = load_tokenizer(settings.model.base, settings.model.revision)
    template = settings.template
    if base and template.name == "chat" and tokenizer.chat_template is None:
        template = template.model_copy(update={"name": "plain"})
    settings = settings.model_copy(update={"template": template})
    limit = template.max_tokens
    if limit == "auto":
        try:
            limit = auto_max_tokens(settings, tokenizer)
        except Problem as problem:
            if problem.code == "template":
                raise
            limit = tokenizer.max_length or 0  # a broken row, which the scan will tell about
    return replace(
        opened,
        settings=settings,
        renderer=sampler(tokenizer, template, settings.training),
        fitted=sampler(tokenizer, _lenient(template), settings.training, limit or None),
        limit=limit or None,
        measured=Measured.of(len(opened)),
    )


def _lenient(template: profiles.Template) -> profiles.Template:
    """To look at rows that would stop a run, they are shown whole."""
    return template.model_copy(update={"too_long": "drop"}) if template.too_long == "fail" else template


@dataclass(frozen=True)
class Looked:
    """What looking at all rows found. With a profile `parts` counts the rows of training, validation and test, `mixture` says how often
    each source is seen. `rows_of` has for a finding all its rows, counted from 1, where they are all known, `split` those of each part."""

    report: DataReport
    findings: tuple[Finding, ...]
    parts: tuple[int, int, int] | None
    rows_of: Mapping[str, NDArray[np.int64]]
    mixture: tuple[Part, ...] = ()
    split: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)


def look(opened: Opened, progress: Callable[[int, int], None], stopped: Callable[[], bool]) -> Looked:
    """Look at all rows.

    Raises:
        Stopped: `stopped` said so.
    """
    found = scan(
        opened.sources, opened.renderer, opened.limit, measured=opened.measured, progress=progress, stopped=stopped
    )
    report = summarise(opened.sources, found)
    if not opened.has_profile or any(finding.id == "broken_row" for finding in report.findings):
        return Looked(report, report.findings, None, found.rows_of)
    division = divide(opened.settings)
    parts = division.parts
    return Looked(
        report,
        worst_first((*division.findings, *report.findings)),
        (len(parts.train), len(parts.validation), len(parts.test)),
        {**found.rows_of, "split_twins": np.array(parts.twins, np.int64) + 1},
        division.mixture,
        {
            name: np.array(rows, np.int64) + 1
            for name, rows in (("train", parts.train), ("validation", parts.validation), ("test", parts.test))
        },
    )
