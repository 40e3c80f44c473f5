"""Suites are read or refused with file and line; those that ship are whole."""

import json
from pathlib import Path

import pytest

from engine.errors import Problem
from engine.evaluate.scorers import matched_gold, normalise
from engine.evaluate.suites import find_suite, known_suites, read_suite


def write(path: Path, *items: object) -> Path:
    path.write_text("".join((item if isinstance(item, str) else json.dumps(item)) + "\n" for item in items))
    return path


def test_reads_items_with_defaults_and_fingerprints_bytes(tmp_path: Path) -> None:
    path = write(
        tmp_path / "s.jsonl",
        {"id": 1, "prompt": "Capital of France?", "answer": "Paris", "variants": ["France's capital?"]},
        "",
        {"id": "t", "prompt": "Is Zorb real?", "choices": ["yes", "no"], "answer": ["no"], "trap": True, "twin": "r"},
        {"id": "r", "prompt": "Is iron real?", "choices": ["yes", "no"], "answer": "yes", "trap": False},
    )
    suite = read_suite(path)
    assert [item.id for item in suite.items] == ["1", "t", "r"]
    assert suite.items[0].answer == ("Paris",) and suite.items[0].prompts == ("Capital of France?", "France's capital?")
    before = suite.fingerprint
    path.write_text(path.read_text() + "\n")
    assert read_suite(path).fingerprint != before and suite.name == "s"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not JSON"),
        ("[]", "should be an object"),
        ({"id": "a"}, "prompt: found nothing"),
        ({"id": "b", "prompt": "x", "anwser": "y"}, "did you mean answer?"),
        ({"id": "b", "prompt": "x", "answer": "y", "choices": ["a", "b"]}, "none of the choices"),
        ({"id": "b", "prompt": "x", "trap": "yes"}, "should be true or false"),
        ({"id": "b", "prompt": "x", "trap": True}, "has no twin"),
        ({"id": "b", "prompt": "x", "twin": "zz"}, "not in this suite"),
        ({"id": "ok", "prompt": "x"}, "id ok is taken"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: object, words: str) -> None:
    path = write(tmp_path / "s.jsonl", {"id": "ok", "prompt": "fine"}, line)
    with pytest.raises(Problem) as problem:
        read_suite(path)
    assert f"{path}:2" in problem.value.what and words in str(problem.value)


def test_empty_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="holds no items"):
        read_suite(write(tmp_path / "s.jsonl", ""))
    with pytest.raises(Problem, match="cannot be read"):
        read_suite(tmp_path / "none.jsonl")


def test_find_suite_prefers_the_runs_own(tmp_path: Path) -> None:
    (tmp_path / "suites").mkdir()
    own = write(tmp_path / "suites" / "retention.jsonl", {"id": "a", "prompt": "b"})
    assert find_suite("retention", tmp_path) == own
    assert find_suite("retention", None) != own
    assert find_suite(str(own), None) == own
    assert known_suites(tmp_path) == ["retention", "consistency", "hallucination"]
    with pytest.raises(Problem, match="did you mean retention"):
        find_suite("retenton", tmp_path)
    with pytest.raises(Problem, match=r"split\.test"):
        find_suite("test", tmp_path)


@pytest.mark.parametrize(("name", "least"), [("retention", 150), ("consistency", 40), ("hallucination", 120)])
def test_shipped_suites_are_whole(name: str, least: int) -> None:
    suite = read_suite(find_suite(name, None))
    assert len(suite.items) >= least
    assert all(item.answer for item in suite.items)
    prompts = [normalise(prompt) for item in suite.items for prompt in item.prompts]
    assert len(prompts) == len(set(prompts))
    if name == "consistency":
        assert all(len(item.variants) in (3, 4) for item in suite.items)
        told = [item.answer[0] for item in suite.items if item.choices]
        assert told.count("yes") == told.count("no")  # or one who always says yes would look best
    if name == "hallucination":
        traps = [item for item in suite.items if item.trap]
        twins = {item.id: item for item in suite.items if item.trap is False}
        assert len(traps) == len(twins) == len({trap.twin for trap in traps}) >= 60
        assert all(set(trap.choices) == set(twins[trap.twin or ""].choices) for trap in traps)


def test_no_shipped_item_gives_its_answer_away() -> None:
    for name in ("retention", "consistency"):
        for item in read_suite(find_suite(name, None)).items:
            if not item.choices:
                given = [prompt for prompt in item.prompts if matched_gold(prompt, item.answer) is not None]
                assert not given, (item.id, given)
