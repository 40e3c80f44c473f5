"""The selected row in five views: as it stands in the file, as an example, as text, as tokens, and as what the loss counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from textual.content import Content

from engine.data.examples import Example
from engine.data.opened import Opened
from engine.data.pieces import Piece, pieces
from engine.data.render import Note, Rendered
from engine.errors import Problem
from screens.data.visible import visible

View = Literal["Raw", "Mapped", "Rendered", "Tokens", "Labels"]
VIEWS: Final[tuple[View, ...]] = ("Raw", "Mapped", "Rendered", "Tokens", "Labels")
SUPERVISED: Final = "$text-success underline"
SPECIAL: Final = "$text-warning"
MUTED: Final = "$foreground-muted"
LONGEST: Final = 200_000  # letters of a view that are drawn
NO_BASE: Final = Content.assemble(
    ("No base model chosen. ", ""), ("b", "bold $text-accent"), (" chooses one: a local folder or a hub id.", "")
)
NOTES: Final[dict[Note, str]] = {
    "not_prefix": "the prompt's tokens are not a prefix of the whole",
    "turn_masked": "earlier responses are not trained on",
    "eos_appended": "EOS appended",
    "no_eos": "no EOS: it would never learn to stop",
    "input_cut": "input cut",
}


@dataclass(frozen=True)
class Record:
    """One row, looked at from all sides. `problem` says what is wrong where it cannot be an example."""

    row: int
    raw: str
    example: Example | None = None
    rendered: Rendered | None = None
    pieces: tuple[Piece, ...] = ()
    problem: str = ""


def look_at(opened: Opened, row: int) -> Record:
    """Read, map and render one row; may take a moment for a very long one."""
    raw = opened.raw(row)
    try:
        example = opened.example(row)
    except Problem as problem:
        return Record(row, raw, problem=str(problem))
    if opened.renderer is None:
        return Record(row, raw, example)
    try:
        rendered = opened.render(example)
    except Problem as problem:
        return Record(row, raw, example, problem=str(problem))
    return Record(row, raw, example, rendered, tuple(pieces(rendered, opened.renderer.tokenizer)))


def drawn(record: Record, view: View) -> Content:
    """A view of the row."""
    if view == "Raw":
        return Content(visible(record.raw[:LONGEST]))
    if record.problem and (view != "Mapped" or record.example is None):
        return Content.styled(visible(record.problem), "$text-error")
    assert record.example is not None
    if view == "Mapped":
        return _mapped(record.example)
    if record.rendered is None:
        return NO_BASE
    if view == "Rendered":
        return _blanks(record.rendered.text[:LONGEST])
    return _tokens(record.pieces) if view == "Tokens" else _labels(record.pieces)


def counted(record: Record) -> Content:
    """How much of the row the loss counts, what was cut or why it is left out."""
    rendered = record.rendered
    if rendered is None:
        return Content()
    said = f"supervised {sum(rendered.supervised):,} of {len(rendered.ids):,}"
    if rendered.dropped:
        return Content.assemble((f"left out: {rendered.dropped}", "$text-error"))
    notes = [
        f"{rendered.cut:,} tokens of the input cut" if note == "input_cut" else NOTES[note] for note in rendered.notes
    ]
    return Content.assemble((" · ".join(notes) + "  " if notes else "", "$text-warning"), said)


def plain(record: Record, view: View) -> str:
    """A view's text for the clipboard, without marks."""
    if view == "Raw" or record.example is None:
        return record.raw
    if view == "Mapped":
        return "\n\n".join(f"{turn.role}: {turn.content}" for turn in record.example.messages)
    if record.rendered is None:
        return record.raw
    if view == "Labels":
        return "\n".join(f"{piece.token}\t{int(piece.supervised)}\t{piece.text!r}" for piece in record.pieces)
    return record.rendered.text


def _mapped(example: Example) -> Content:
    parts: list[tuple[str, str]] = [
        ("id      ", MUTED),
        (f"{visible(example.id)}\n", ""),
        ("where   ", MUTED),
        (f"{example.where}\n", ""),
    ]
    if example.label is not None:
        parts += [("label   ", MUTED), (f"{visible(example.label)}\n", "")]
    for turn in example.messages:
        parts += [(f"\n{turn.role}\n", "bold $text-accent"), (visible(turn.content) + "\n", "")]
    return Content.assemble(*parts)


def _dotted(text: str) -> str:
    return "".join(
        "·" if letter == " " else "⏎" if letter == "\n" else "→" if letter == "\t" else visible(letter)
        for letter in text
    )


def _blanks(text: str) -> Content:
    """Text with its blanks to be seen; lines still break where they do."""
    return Content(_dotted(text).replace("⏎", "⏎\n"))


def _boxed(piece: Piece) -> str:
    """What a token is shown as: specials in brackets without their own."""
    return f"[{piece.text.strip('<>|')}]" if piece.special else _dotted(piece.text)


def _tokens(made: tuple[Piece, ...]) -> Content:
    """The tokens one after the other, every second on another ground."""
    parts: list[tuple[str, str]] = []
    letters = 0
    for place, piece in enumerate(made):
        styles = [
            SPECIAL if piece.special else "",
            SUPERVISED if piece.supervised else "",
            "on $panel" if place % 2 else "",
        ]
        parts.append((_boxed(piece), " ".join(filter(None, styles))))
        letters += len(piece.text)
        if letters > LONGEST:
            break
    return Content.assemble(*parts)


def _labels(made: tuple[Piece, ...]) -> Content:
    """A line a token: place, id, text, and the label that the loss sees."""
    parts: list[tuple[str, str]] = [(f"{'place':>6} {'id':>7} {'label':>7}  text\n", "bold " + MUTED)]
    for place, piece in enumerate(made[: LONGEST // 20]):
        label = str(piece.token) if piece.supervised else "–"
        style = SUPERVISED if piece.supervised else SPECIAL if piece.special else ""
        parts += [(f"{place:>6} {piece.token:>7} {label:>7}  ", MUTED), (_boxed(piece), style), ("\n", "")]
    return Content.assemble(*parts)
