"""Reading an answer: which choice it names, whether it holds a known answer, whether it declines.

All are anchored or work on whole words: "no" is a substring of more than half of PubMedQA's conclusions, whatever they
say.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

SHORT_GOLD: Final = 6  # words; a longer answer has to be met as a whole, not contained
_WORDS: Final = re.compile(r"(?<!\w)[-−](?=\d)|\d+(?:[.,]\d+)*|[^\W\d_]+(?:['’][^\W\d_]+)*", re.UNICODE)
# Scripts that do not put blanks between words are compared sign by sign: CJK, kana, Thai, Lao, Khmer, Burmese.
_UNSPACED: Final = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_ARTICLES: Final = frozenset({"a", "an", "the"})
# What may follow a choice that opens a sentence: its end, or words that only a whole answer goes on with
# ("no, ...", "yes it does").
_AFTER: Final = (
    r"(?=\s*(?:$|[.,;:!?)\]\n*\"'’”—–])|\s+-\s|\s+(?:it|they|this|that|these|there|the|we|he|she|i|because|since|as)\b)"
)
_ANNOUNCED: Final = (
    r"\b(?:(?:final\s+)?(?:answer|decision|conclusion|diagnosis|reading)\s*(?:is|would\s+be|:|=)+|answer\s*-)"
)


def words(text: str) -> list[str]:
    """Case-folded words and numbers (`1,000` is `1000`, `-5` keeps its sign); unspaced scripts give a word a sign."""
    found: list[str] = []
    minus = False
    for token in _WORDS.findall(unicodedata.normalize("NFKC", text).casefold()):
        if token in "-−":
            minus = True
            continue
        if token[0].isdigit():
            token = re.sub(r",(?=\d{3}(?:\D|$))", "", token)
        if _UNSPACED.search(token):
            found.extend(token)
        else:
            found.append(f"-{token}" if minus else token.replace("’", "'"))
        minus = False
    return found


def normalise(text: str) -> str:
    """Words without case, punctuation and articles, as SQuAD compares answers (Rajpurkar et al. 2016, arXiv
    1606.05250), for any script.
    """
    return " ".join(word for word in words(text) if word not in _ARTICLES)


def extract_choice(text: str, choices: Sequence[str]) -> str | None:
    """The choice that an answer names, or None: unparsed, a class of its own.

    In this order: an announced answer ("the answer is B", the last one counts); a choice that opens the answer and
    stands by itself; for choices of four letters and more, the only one that the first sentence names. Two different
    announcements are unparsed.
    """
    by_key = {_key(choice): choice for choice in choices}
    any_choice = "|".join(re.escape(key) for key in sorted(by_key, key=len, reverse=True))
    cleaned = _key(text)
    announced = re.findall(rf"{_ANNOUNCED}[\s(\[\"'“*]*({any_choice})(?!\w)", cleaned)
    if announced:
        return by_key[announced[-1]] if len(set(announced)) == 1 else None
    opened = re.match(rf"[\s(\[\"'“‘*#>-]*({any_choice})(?!\w){_AFTER}", cleaned)
    if opened:
        return by_key[opened[1]]
    if all(len(key) >= 4 for key in by_key):
        sentence = re.split(r"[.!?](?:\s|$)|\n", cleaned.strip(), maxsplit=1)[0]
        named = set(re.findall(rf"(?<![\w-])({any_choice})(?![\w-])", sentence))
        denied = re.search(rf"\b(?:not|no|non|neither|never|without)\b[\s-]+(?:\w+\s+)?(?:{any_choice})", sentence)
        if len(named) == 1 and not denied:
            return by_key[named.pop()]
    return None


def _key(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def first_part(text: str) -> str:
    """An answer up to its first empty line: what follows is another thought, often another question."""
    return re.split(r"\n\s*\n", text.strip(), maxsplit=1)[0]


def matched_gold(text: str, golds: Sequence[str]) -> str | None:
    """The accepted answer that a free text gives: equal after `normalise`, or, if short, contained in its first part as
    whole words.
    """
    said = normalise(first_part(text))
    for gold in golds:
        wanted = normalise(gold)
        if not wanted:
            continue
        if said == wanted or (len(wanted.split()) <= SHORT_GOLD and f" {wanted} " in f" {said} "):
            return gold
    return None


def extract_text(text: str, golds: Sequence[str]) -> str | None:
    """What a free text answers: the preferred accepted answer if it gives any of them, else its normalised first line;
    None if it is empty.
    """
    if matched_gold(text, golds) is not None:
        return golds[0]
    line = next((line for line in text.splitlines() if line.strip()), "")
    return normalise(line)[:200] or None


_UNREAL: Final = (
    r"(?:such|known|real|record|evidence\s+(?:of|that|for)|documented|recogni[sz]ed|established|information)"
)
_DECLINES: Final = re.compile(
    rf"""
    \b(?:no|not\s+a|isn['’]t\s+a|aren['’]t\s+any|never\s+been\s+a)\s+{_UNREAL}\b
    | \b(?:does|do|did|has|have)(?:\s+not|n['’]t)\s+(?:(?:appear|seem)\s+to\s+)?(?:exist|been\s+documented)
    | \b(?:not|n['’]t)\s+(?:aware|familiar|know\s+(?:of|about|what|who|which)|heard\s+of|recogni[sz]e)
    | \b(?:not|n['’]t)\s+(?:able\s+to\s+(?:find|verify|confirm)|find\s+(?:any|a|evidence))
    | \b(?:can\s*not|can['’]t|could\s*not|couldn['’]t|unable\s+to)\s+(?:find|verify|confirm|locate|identify|provide)\b
    | \bi\s+do(?:n['’]t|\s+not)\s+know\b
    | \bi\s+(?:do(?:n['’]t|\s+not)\s+have|have\s+no)\s+(?:any\s+)?(?:information|record|knowledge)\b
    | \b(?:fictional|fictitious|made[-\s]up|invented|non-?existent|hypothetical)\b
    """,
    re.IGNORECASE | re.VERBOSE,
)


def declines(text: str) -> bool:
    """Whether a free text says, in its first two sentences, that the thing asked about is unknown or not real.

    Statements about existence and knowledge only; hedges ("may", "possibly") are left out, because they mark most
    confident medical conclusions too. A pattern misses what it does not list: it is read beside the same figure on real
    twins, and a suite with choices does not need it.
    """
    opening = " ".join(re.split(r"(?<=[.!?])\s+", first_part(text))[:2])
    return _DECLINES.search(opening) is not None


def rouge_l(text: str, gold: str) -> float:
    """ROUGE-L F1 (Lin 2004, https://aclanthology.org/W04-1013), 0 to 1, over Unicode words."""
    said, wanted = words(text), words(gold)
    if not said or not wanted:
        return 0.0
    common = _common_subsequence(said, wanted)
    return 2 * common / (len(said) + len(wanted))


def _common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest common subsequence, row by row: O(len(left) * len(right)) time, O(len(right)) memory."""
    row = [0] * (len(right) + 1)
    for word in left:
        diagonal = 0
        for place, other in enumerate(right, 1):
            above = row[place]
            row[place] = diagonal + 1 if word == other else max(above, row[place - 1])
            diagonal = above
    return row[-1]
