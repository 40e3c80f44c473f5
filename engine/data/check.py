"""What is looked for in each row: a small function for each finding, collected in `ROW_CHECKS` and `RENDER_CHECKS`.

What a finding is called, how bad it is and its sentence stand in `engine.data.finding`. A new check is one function and two lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from engine.data.examples import Example
from engine.data.question import normalised
from engine.data.rendered import Rendered, Sampler
from engine.data.tokenizer import ModelTokenizer

# What people leave where a response should be.
PLACEHOLDER: Final = re.compile(r"\W*(n/?a|todo|tbd|nooutput|no output|lorem ipsum.*)?\W*", re.IGNORECASE)
# NUL, the replacement character, and UTF-8 that was once read as Latin-1 or Windows-1252.
DAMAGED: Final = re.compile("[\x00\ufffd]|Ã[\x80-\xbf©¨¤¶¼±]|â€[™œ\x9d“”¦]|Â[°µ±·]")
DROPPED: Final = {
    "no response": "no_response",
    "empty response": "response_empty",
    "nothing supervised": "all_masked",
    "too long": "too_long",
    "response does not fit": "answer_truncated",
    "prompt fills the window": "prompt_fills_window",
    "identical responses": "identical_responses",
    "responses rewritten": "responses_rewritten",
    "tool call not written": "tool_call_not_written",
    "response not written": "response_not_written",
    "empty text": "empty_text",
}


def placeholder(example: Example) -> bool:
    """The response is empty or stands for one."""
    replies = [turn for turn in example.messages if turn.role == "assistant" and not turn.calls]
    return bool(replies) and PLACEHOLDER.fullmatch(replies[-1].content) is not None


def no_response(example: Example) -> bool:
    """There is no assistant's turn."""
    return example.text is None and not any(turn.role == "assistant" for turn in example.messages)


def role_order(example: Example) -> bool:
    """Two turns of the same speaker in a row, or a response before anything was asked."""
    roles = [turn.role for turn in example.messages if turn.role != "system"]
    twice = any(one == other != "tool" for one, other in pairwise(roles))
    return roles[:1] == ["assistant"] or twice


def phantom_nulls(example: Example) -> bool:
    """A table gave a tool or call the keys of others, with nothing in them."""
    calls = (call for turn in (*example.messages, *example.rejected) for call in turn.calls)
    return any(map(_holds_null, (*example.tools, *calls)))


def _holds_null(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_null, value.values()))
    return value is None or (isinstance(value, list) and any(map(_holds_null, value)))


def copies_input(example: Example) -> bool:
    """The response is the question or the input again."""
    response = normalised(example.response)
    return bool(response) and response in (normalised(example.prompt), normalised(example.input_text))


def damaged_text(example: Example) -> bool:
    """Bytes were lost or decoded wrongly before."""
    return any(DAMAGED.search(text) for text in example.texts)


ROW_CHECKS: Final[dict[str, Callable[[Example], bool]]] = {
    "empty_output": placeholder,
    "no_response": no_response,
    "role_order": role_order,
    "phantom_nulls": phantom_nulls,
    "output_copies_input": copies_input,
    "bad_text": damaged_text,
}


def double_bos(rendered: Rendered, _: Example, sampler: Sampler) -> bool:
    """The template writes BOS and the data or a second template does, too."""
    bos = sampler.tokenizer.bos_token
    return bos is not None and rendered.ids[:2] == [sampler.tokenizer.tokenizer.token_to_id(bos)] * 2


def eos_masked(rendered: Rendered, _: Example, sampler: Sampler) -> bool:
    """A response ends, but the loss does not count its end."""
    ends = [
        counts for token, counts in zip(rendered.ids, rendered.supervised, strict=True) if token in sampler.stop_ids
    ]
    return bool(ends) and any(rendered.supervised) and not any(ends)


def special_in_text(_: Rendered, example: Example, sampler: Sampler) -> bool:
    """Text of the data would be read as a control token."""
    vocabulary = sampler.tokenizer.tokenizer
    tokens = [vocabulary.id_to_token(number) for number in sampler.tokenizer.special_ids]
    return any(token and token in text for text in example.texts for token in tokens)


def pad_is_eos(tokenizer: ModelTokenizer) -> bool:
    """The token that pads is the one that ends."""
    pad = tokenizer.special.get("pad_token")
    return pad is not None and pad == tokenizer.eos_token


RENDER_CHECKS: Final[dict[str, Callable[[Rendered, Example, Sampler], bool]]] = {
    "double_bos": double_bos,
    "eos_masked": eos_masked,
    "special_in_text": special_in_text,
}


def row_findings(example: Example) -> Iterator[str]:
    """What is found without a tokenizer."""
    return (name for name, check in ROW_CHECKS.items() if check(example))


def render_findings(rendered: Rendered) -> Iterator[str]:
    """What rendering itself found: why a row is dropped, and its notes."""
    if rendered.dropped:
        yield DROPPED[rendered.dropped]
    yield from rendered.notes


def token_findings(samples: Sequence[Rendered], example: Example, sampler: Sampler) -> Iterator[str]:
    """What is found in a row's tokens."""
    for rendered in samples:
        yield from render_findings(rendered)
        yield from (name for name, check in RENDER_CHECKS.items() if check(rendered, example, sampler))
