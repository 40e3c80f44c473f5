"""The selected row in five views: as it stands in the file, as an example, as text, as tokens, and as what the loss counts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from textual.content import Content

from engine.data.examples import Example
from engine.data.opened import Opened
from engine.data.pieces import Piece, pieces
from engine.data.rendered import Note, Rendered
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
    "eos_appended": "EOS appended",
    "no_eos": "no EOS: it would never learn to stop",
    "input_cut": "input cut",
    "turns_cut": "later turns left out",
    "cut_in_pieces": "cut in pieces",
    "one_sample_a_turn": "a sample each response",
    "tools_ignored": "the template writes no tools",
}


@dataclass(frozen=True)
class Record:
    """One row, looked at from all sides: `samples` are what the model is shown of it, `pieces` their tokens.

    `problem` says what is wrong where it cannot be an example.
    """

    row: int
    raw: str
    example: Example | None = None
    samples: tuple[Rendered, ...] = ()
    pieces: tuple[tuple[Piece, ...], ...] = ()
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
        samples = opened.samples(example)
    except Problem as problem:
        return Record(row, raw, example, problem=str(problem))
    made = tuple(tuple(pieces(rendered, opened.renderer.tokenizer)) for rendered in samples)
    return Record(row, raw, example, samples, made)


def drawn(record: Record, view: View) -> Content:
    """A view of the row."""
    if view == "Raw":
        return Content(visible(record.raw[:LONGEST]))
    if record.problem and (view != "Mapped" or record.example is None):
        return Content.styled(visible(record.problem), "$text-error")
    assert record.example is not None
    if view == "Mapped":
        return _mapped(record.example)
    if not record.samples:
        return NO_BASE
    if view == "Rendered":
        shown = [_blanks(rendered.text[:LONGEST]) for rendered in record.samples]
    else:
        shown = [_tokens(made) if view == "Tokens" else _labels(made) for made in record.pieces]
    headed = [_headed(rendered.part, content) for rendered, content in zip(record.samples, shown, strict=True)]
    return Content("\n\n").join(headed)


def counted(record: Record) -> Content:
    """How much of the row the loss counts, what was cut or why it is left out."""
    if not record.samples:
        return Content()
    dropped = dict.fromkeys(rendered.dropped for rendered in record.samples if rendered.dropped)
    kept = [rendered for rendered in record.samples if not rendered.dropped]
    left_out = f"left out: {', '.join(dropped)}" if dropped else ""
    if not kept:
        return Content.styled(left_out, "$text-error")
    supervised, tokens = (sum(map(sum, (one.supervised for one in kept))), sum(len(one.ids) for one in kept))
    cut = max(rendered.cut for rendered in kept)
    found = dict.fromkeys(note for rendered in kept for note in rendered.notes)
    notes = [f"{cut:,} tokens of the input cut" if note == "input_cut" else NOTES[note] for note in found]
    return Content.assemble(
        (f"{left_out}  " if left_out else "", "$text-error"),
        (" · ".join(notes) + "  " if notes else "", "$text-warning"),
        f"{len(kept)} samples  " if len(kept) > 1 else "",
        f"supervised {supervised:,} of {tokens:,}",
    )


def plain(record: Record, view: View) -> str:
    """A view's text for the clipboard, without marks."""
    if view == "Raw" or record.example is None:
        return record.raw
    if view == "Mapped":
        return "\n\n".join(f"{name}: {text}" for name, text in _parts(record.example))
    if not record.samples:
        return record.raw
    if view == "Labels":
        made = (piece for sample in record.pieces for piece in sample)
        return "\n".join(f"{piece.token}\t{int(piece.supervised)}\t{piece.text!r}" for piece in made)
    return "\n\n".join(rendered.text for rendered in record.samples)


def _mapped(example: Example) -> Content:
    parts: list[tuple[str, str]] = [
        ("id      ", MUTED),
        (f"{visible(example.id)}\n", ""),
        ("where   ", MUTED),
        (f"{example.where}\n", ""),
    ]
    if example.label is not None:
        parts += [("label   ", MUTED), (f"{visible(example.label)}\n", "")]
    for name, text in _parts(example):
        parts += [(f"\n{name}\n", "bold $text-accent"), (visible(text[:LONGEST]) + "\n", "")]
    return Content.assemble(*parts)


def _parts(example: Example) -> Iterator[tuple[str, str]]:
    """What the row says, part by part: tools, turns, what stands in place of the chosen response, or the document."""
    if example.tools:
        yield "tools", "\n".join(map(_json, example.tools))
    named = [(turn.role, turn) for turn in example.messages[: example.shared or None]]
    if example.rejected:
        named += [(f"chosen {turn.role}", turn) for turn in example.messages[example.shared :]]
        named += [(f"rejected {turn.role}", turn) for turn in example.rejected]
    for name, turn in named:
        said = (turn.reasoning and f"<{turn.reasoning}>", turn.content, *map(_json, turn.calls))
        yield name, "\n".join(filter(None, said))
    if example.text is not None:
        yield "text", example.text


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _headed(part: str, content: Content) -> Content:
    """A sample under its name, where its row has several."""
    return Content.assemble((f"── {part}\n", "bold " + MUTED), content) if part else content


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
