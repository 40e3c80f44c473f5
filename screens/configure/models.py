"""The models to choose from: what is here already, how large each is, what it is made of, and what choosing it would cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from textual.content import Content

from engine.bases import Base
from engine.errors import Problem
from engine.fit.estimate import GpuFit
from engine.hub import Download
from screens.widgets import figures
from screens.widgets.cells import Cell, Column

COLUMNS: Final = (
    Column("model", 24, stretch=True, keep_end=10),
    Column("size", 5, right=True),
    Column("needs", 7, right=True),
    Column("kind", 7),
    Column("chat", 4),
    Column("disk", 7, right=True),
    Column("where", 6),
)
GATED: Final = "gated"
OTHER: Final = "another: a hub id or a folder"
MUTED: Final = "$foreground-muted"


@dataclass(frozen=True)
class Choice:
    """A line of the list. Without a `base` it stands for the model called `typed`, or for one that is still to be typed.

    `least` is what the profile would need at the least with it, where that is known.
    """

    base: Base | None
    typed: str = ""
    least: GpuFit | None = None

    @property
    def name(self) -> str:
        """What `model.base` would be; empty where it is to be typed."""
        return self.base.name if self.base else self.typed

    @property
    def key(self) -> str:
        """What tells it from all others."""
        return f"base:{self.base.name}" if self.base else f"other:{self.typed}"


def choices(found: Sequence[Base], sought: str, needed: Mapping[str, GpuFit]) -> tuple[Choice, ...]:
    """The models in which all words occur, and last what was typed itself, where no model is called so."""
    words = sought.lower().split()
    kept = [base for base in found if all(word in _text(base) for word in words)]
    typed = sought.strip() if len(words) == 1 else ""  # no name of a model has a blank
    other = () if any(base.name == typed for base in kept) else (Choice(None, typed),)
    return (*(Choice(base, least=needed.get(base.name)) for base in kept), *other)


def _text(base: Base) -> str:
    chat = "chat" if base.chat else ""
    gated = GATED if base.gated else ""
    return f"{base.name} {base.family} {base.kind} {base.where} {chat} {gated} {base.about}".lower()


def cells(choice: Choice) -> tuple[Cell, ...]:
    """A line of the table."""
    base = choice.base
    if base is None:
        return (choice.typed or OTHER, "$text-accent"), "", "", "", "", "", ""
    where: Cell = (base.where, "$text-success") if base.here else (base.where, MUTED)
    if base.gated and not base.here:
        where = (GATED, "$text-warning")
    return (
        base.name,
        figures.parameters(base.parameters) if base.parameters else "",
        _needs(choice.least),
        (base.kind.replace("experts + hybrid", "exp+hyb"), "" if base.kind == "dense" else "$text-accent"),
        ("✓" if base.chat else "–" if base.chat is False else "", MUTED),
        figures.size(base.bytes) if base.bytes else "",
        where,
    )


def _needs(least: GpuFit | None) -> Cell:
    """GiB at the least, and whether they are free."""
    if least is None:
        return ""
    return (
        f"{figures.gib(least.predicted_process_mib)} {'✓' if least.fits else '✗'}",
        "" if least.fits else "$text-error",
    )


def about(choice: Choice | None, asked: Download | Problem | None, free: int | None) -> Content:
    """What is to be known of a model: what it is, and whether it can be had."""
    if choice is None:
        return Content()
    base = choice.base
    if base is None:
        if not choice.typed:
            return Content(
                "enter asks for the id of a model on the hub (OWNER/NAME) or a folder; / looks for one here."
            )
        return Content("\n").join([Content(f"enter takes {choice.typed} as model.base."), _had(asked, free)])
    context = f"{base.context:,} tokens of context" if base.context else ""
    template = {True: "a chat template", False: "no chat template: template.name = alpaca or plain", None: ""}[
        base.chat
    ]
    packed = f"comes quantised ({base.quantized})" if base.quantized else ""
    first = " · ".join(
        filter(
            None,
            (
                base.family,
                base.kind,
                figures.parameters(base.parameters) if base.parameters else "",
                context,
                template,
                packed,
                base.about,
            ),
        )
    )
    here = Content.styled("✓ on this machine", "$text-success")
    second = here if base.here else _had(asked, free, gated=base.gated)
    if choice.least is not None and not isinstance(asked, Problem):
        need = f"{figures.gib(choice.least.predicted_process_mib)} of {figures.gib(choice.least.free_mib)} GiB"
        second = Content.assemble(f"needs {need} or more, estimated · ", second)
    return Content("\n").join([Content(first), second])


def _had(asked: Download | Problem | None, free: int | None, *, gated: bool = False) -> Content:
    """Whether it can be downloaded, and how much that is."""
    if isinstance(asked, Problem):
        words = ". ".join(part.rstrip(".") for part in (asked.what, asked.do) if part)
        return Content.styled(f"! {words}.", "$text-warning")
    if asked is None:
        terms = "gated: accept its terms at huggingface.co; " if gated else ""
        return Content.styled(f"{terms}asking the hub ...", MUTED)
    room = f", {figures.size(free)} are free" if free is not None else ""
    return Content(f"to download {figures.size(asked.missing)} of {figures.size(asked.total)}{room}")
