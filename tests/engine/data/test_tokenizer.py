"""Tokenizers from folders as transformers and the hub have them, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.data.tokenizer import load_tokenizer
from engine.errors import Problem
from tests.engine.data.conftest import MakeTokenizer, write_tokenizer
from tests.engine.data.templates import CHATML


def test_what_surrounds_a_tokenizer(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "base", CHATML)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [6, 3]}))
    loaded = load_tokenizer(str(folder))
    assert (loaded.bos_token, loaded.eos_token, loaded.special["pad_token"]) == ("<s>", "<|im_end|>", "<pad>")
    assert loaded.eos_ids == (3, 6, 1)  # the tokenizer's own, then generation_config's, then config's
    assert (loaded.pad_id, loaded.max_length, loaded.chat_template) == (7, 2048, CHATML)
    assert loaded.decode(loaded.encode("Is it raised?<|im_end|>")) == "Is it raised?<|im_end|>"


def test_template_file_wins_and_named_templates_have_a_default(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "base", "in the settings")
    (folder / "chat_template.jinja").write_text("in its file")
    assert load_tokenizer(str(folder)).chat_template == "in its file"
    (folder / "chat_template.jinja").unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["chat_template"] = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": "y"}]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert load_tokenizer(str(folder)).chat_template == "y"


def test_window_of_the_text_part_of_a_model_with_pictures(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "base", None)
    (folder / "config.json").write_text(json.dumps({"text_config": {"max_position_embeddings": 77, "eos_token_id": 2}}))
    loaded = load_tokenizer(str(folder))
    assert (loaded.max_length, loaded.eos_ids) == (77, (3, 2))


def test_pad_falls_back_to_eos(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "base", None)
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    loaded = load_tokenizer(str(folder))
    assert ("pad_token" in loaded.special, loaded.pad_id) == (False, 1)


def test_only_a_tokenizer_that_is_used_to_bos_adds_it(make_tokenizer: MakeTokenizer) -> None:
    assert make_tokenizer(CHATML, add_bos=True).adds_bos
    assert not make_tokenizer(CHATML).adds_bos


def test_saved_truncation_does_not_shorten_rows(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "base", None)
    saved = json.loads((folder / "tokenizer.json").read_text())
    saved["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    (folder / "tokenizer.json").write_text(json.dumps(saved))
    assert len(load_tokenizer(str(folder)).encode("pitch " * 50)) >= 50


@pytest.mark.parametrize(
    ("base", "code", "says"),
    [
        ("/nowhere/model", "model", "There is no folder"),
        ("./nowhere", "model", "There is no folder"),
        ("not a hub id!", "model", "There is no model"),
        ("somebody/model-that-is-not-here", "network", "HF_HUB_OFFLINE"),
    ],
)
def test_bases_that_are_not_there(base: str, code: str, says: str) -> None:
    with pytest.raises(Problem) as caught:
        load_tokenizer(base)
    assert caught.value.code == code
    assert says in str(caught.value)


def test_folders_without_a_readable_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"has no tokenizer\.json"):
        load_tokenizer(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(Problem, match="cannot be read"):
        load_tokenizer(str(tmp_path))
