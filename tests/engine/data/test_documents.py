"""Plain text: every token learned once, long documents in pieces, BOS and EOS once each."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.documents import Documents
from engine.data.examples import Example
from engine.data.finding import Finding
from engine.data.pieces import pieces
from engine.data.prepare import auto_max_tokens, load, prepare
from engine.data.tokenizer import ModelTokenizer, load_tokenizer
from engine.errors import Problem
from engine.profile import Profile
from tests.engine.data.conftest import MakeTokenizer, write_tokenizer
from tests.tiny import tiny_profile

_LOADED: dict[bool, ModelTokenizer] = {}


def document(text: str) -> Example:
    return Example("7", (), "", None, "x:7", text=text)


def loaded(add_bos: bool, factory: pytest.TempPathFactory) -> ModelTokenizer:
    if add_bos not in _LOADED:
        folder = write_tokenizer(factory.mktemp("documents") / "base", None, eos="</s>", add_bos=add_bos)
        _LOADED[add_bos] = load_tokenizer(str(folder))
    return _LOADED[add_bos]


@given(text=st.text(min_size=1, max_size=200).filter(str.strip), limit=st.integers(16, 60), add_bos=st.booleans())
@settings(max_examples=80, deadline=None)
def test_every_token_but_the_first_is_predicted_exactly_once_over_the_pieces(
    text: str, limit: int, add_bos: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tokenizer = loaded(add_bos, tmp_path_factory)
    (whole,) = Documents(tokenizer).samples(document(text))
    assert whole.ids == [*([0] if add_bos else []), *tokenizer.encode(text), 1]
    assert all(whole.supervised)
    samples = Documents(tokenizer, max_tokens=limit).samples(document(text))
    together = samples[0].ids + [token for rendered in samples[1:] for token in rendered.ids[1:]]
    assert together == whole.ids
    assert all(2 <= len(rendered.ids) <= limit for rendered in samples)
    for before, rendered in pairwise(samples):
        assert rendered.ids[0] == before.ids[-1]
        assert rendered.supervised == [False, *[True] * (len(rendered.ids) - 1)]
    for rendered in samples:
        assert [piece.token for piece in pieces(rendered, tokenizer)] == rendered.ids


def test_bos_and_eos_that_a_document_brings_are_not_doubled(tmp_path_factory: pytest.TempPathFactory) -> None:
    tokenizer = loaded(True, tmp_path_factory)
    (rendered,) = Documents(tokenizer).samples(document("<s>Is it raised?</s>"))
    assert (rendered.ids.count(0), rendered.ids.count(1)) == (1, 1)


def test_long_documents_under_each_policy(tmp_path_factory: pytest.TempPathFactory) -> None:
    tokenizer = loaded(False, tmp_path_factory)
    long = document("Is it raised? " * 20)
    cut = Documents(tokenizer, "cut_input", 32).samples(long)
    assert len(cut) > 1
    assert cut[0].part == f"piece 1 of {len(cut)}"
    assert all(rendered.notes == ("cut_in_pieces",) for rendered in cut)
    assert [rendered.dropped for rendered in Documents(tokenizer, "drop", 32).samples(long)] == ["too long"]
    with pytest.raises(Problem, match=r"^x:7: .* tokens, 32 allowed"):
        Documents(tokenizer, "fail", 32).samples(long)
    assert Documents(tokenizer).samples(document(" \n"))[0].dropped == "empty text"


def corpus(base: Path, folder: Path, **more: object) -> Profile:
    """Six documents of 1 to 6 sentences a file, and one that is empty."""
    folder.mkdir()
    for number in range(6):
        sentence = f"The pitch of recording {number} is raised. "
        (folder / f"{number}.txt").write_text(sentence * (4 * number + 1))
    (folder / "empty.txt").write_text("\n")
    values = {"training.objective": "pretrain", "split.validation": 0.3, "template.max_tokens": 64, **more}
    settings_ = tiny_profile(base, folder, **values)
    return settings_.model_copy(update={"data": (settings_.data[0].model_copy(update={"columns": {}}),)})


def counts(findings: tuple[Finding, ...]) -> dict[str, int]:
    return {finding.id: finding.count for finding in findings}


def test_a_folder_of_texts_is_prepared_whole_and_split_by_document(tiny_base: Path, tmp_path: Path) -> None:
    settings_ = corpus(tiny_base, tmp_path / "texts")
    made = prepare(settings_, tmp_path / "run")
    tokenizer = load_tokenizer(str(tiny_base))
    train, validation = set(made.train.row_ids), set(made.validation.row_ids)
    assert not train & validation
    assert train | validation == {f"{number}.txt" for number in range(6)}
    assert len(made.train) + len(made.validation) > 6
    for tokens in (made.train, made.validation):
        for name in dict.fromkeys(tokens.row_ids):
            rows = [row for row, of in enumerate(tokens.row_ids) if of == name]
            ids: list[int] = []
            for row in rows:
                piece = tokens.ids[tokens.starts[row] : tokens.starts[row + 1]].tolist()
                ids += piece if row == rows[0] else piece[1:]
            text = (tmp_path / "texts" / name).read_text()
            assert ids == [*tokenizer.encode(text), *tokenizer.eos_ids[:1]]
    found = counts(made.findings)
    assert found["cut_in_pieces"] >= 3
    assert np.array_equal(load(tmp_path / "run").train.starts, made.train.starts)


def test_held_out_documents_ask_nothing_and_are_said(tiny_base: Path, tmp_path: Path) -> None:
    made = prepare(corpus(tiny_base, tmp_path / "texts", **{"split.test": 0.3}), tmp_path / "run")
    assert made.test_rows == 0
    assert counts(made.findings)["not_asked"] == 2
    assert not (tmp_path / "run" / "suites").exists()


def test_auto_length_of_documents_is_a_piece_not_the_longest_document(tiny_base: Path, tmp_path: Path) -> None:
    settings_ = corpus(tiny_base, tmp_path / "texts", **{"template.max_tokens": "auto"})
    tokenizer = load_tokenizer(str(tiny_base))
    longest = len(tokenizer.encode((tmp_path / "texts" / "5.txt").read_text())) + 1
    assert auto_max_tokens(settings_, tokenizer) == min(longest, 512)
    (tmp_path / "texts" / "7.txt").write_text("pitch " * 9000)
    roomy = type(tokenizer)(
        **{**{name: getattr(tokenizer, name) for name in tokenizer.__dataclass_fields__}, "max_length": 100_000}
    )
    assert auto_max_tokens(settings_, roomy) == 2048


def test_a_base_without_a_chat_template_learns_plain_text(make_tokenizer: MakeTokenizer, tmp_path: Path) -> None:
    base = make_tokenizer(None, eos="</s>", add_bos=True).base
    made = prepare(corpus(Path(base), tmp_path / "texts"), tmp_path / "run")
    assert all(
        made.train.ids[start] in (0, *made.train.ids[made.train.starts[1:] - 1]) for start in made.train.starts[:-1]
    )
    assert counts(made.findings)["cut_in_pieces"] >= 3
