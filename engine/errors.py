"""The one exception that is meant for people.

Everything a user can act on - bad input, a missing model, a full disk - is raised as a `Problem`; the command line prints
it and exits 2, screens show it on the last line. Any other exception is a bug.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class Problem(Exception):  # noqa: N818 - it is the user's problem, not a programmer's error
    """What happened, why, and what to do next, each a short sentence without a trailing line break.

    `code` is a word that screens show as the cause of a failed run: `OOM`, `gated`, `disk`, `data`, ...
    """

    def __init__(self, what: str, why: str = "", do: str = "", *, code: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.do = do
        self.code = code

    def __str__(self) -> str:
        return "\n".join(part for part in (self.what, self.why, self.do) if part)


def closest(word: str, known: Iterable[str]) -> str:
    """ " - did you mean X?" for the known word nearest to `word`, or nothing when none is near."""
    near = nearest(word, known)
    return f" - did you mean {near}?" if near else ""


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that is nearest to `word`; empty when none is near. Letters change places, but seldom the first."""
    near = get_close_matches(word, list(known), n=5, cutoff=0.6)
    return min(near, key=lambda each: (sorted(each) != sorted(word), each[:1] != word[:1]), default="")
