"""Text of data on a terminal: control characters are shown and never sent."""

from __future__ import annotations


def visible(text: str) -> str:
    """Control characters that would steer the terminal become visible; line ends and tabs stay."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "�" for letter in text)


def in_a_line(text: str) -> str:
    """As `visible`, with every run of blanks and line ends as one blank."""
    return visible(" ".join(text.split()))
