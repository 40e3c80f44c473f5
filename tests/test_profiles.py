"""The domain profiles that ship: every one is valid, explained, and can be found by its name."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest

from engine import profile_file
from engine.data.mapping import columns_named
from engine.places import shipped

DOMAINS = sorted((shipped() / "domains").glob("*.toml"))
CHOSEN = re.compile(r"^\w+ = ", re.MULTILINE)


def test_the_three_domains_ship() -> None:
    assert {path.stem for path in DOMAINS} >= {"speech-analysis", "pubmedqa", "healthcare-instructions"}


@pytest.mark.parametrize("path", DOMAINS, ids=lambda path: path.stem)
def test_a_profile_is_valid_and_survives_a_round_trip(path: Path) -> None:
    profile = profile_file.read(path)
    assert profile_file.find(path.stem) == path
    assert profile_file.parse(profile_file.dump(profile), path) == profile
    assert profile.title and profile.evaluation.suites
    assert all(columns_named(mapping, ()) for mapping in profile.data[0].columns.values())


@pytest.mark.parametrize("path", DOMAINS, ids=lambda path: path.stem)
def test_a_profile_says_how_to_use_it_with_ones_own_data(path: Path) -> None:
    text = path.read_text()
    heading = text[: text.index("title =")]
    assert f"workbench train {path.stem} --set data.0.source=" in heading
    assert text.count("#") > 15, "the choices are explained"


def test_pubmedqa_holds_out_the_official_test_questions() -> None:
    profile = profile_file.read(shipped() / "domains" / "pubmedqa.toml")
    assert isinstance(profile.split.test, str)
    ids = orjson.loads(Path(profile.split.test).read_bytes())
    assert len(ids) == len(set(ids)) == 500
    assert "MIT" in (shipped() / "domains" / "pubmedqa.toml").read_text()


def test_pubmedqa_ids_are_those_of_the_published_test_set(shared_data: Path) -> None:
    published = orjson.loads((shared_data / "pubmedqa" / "test_ground_truth.json").read_bytes())
    shipped_ids = orjson.loads((shipped() / "domains" / "pubmedqa_test_ids.json").read_bytes())
    assert set(shipped_ids) == set(published)


def test_pubmedqa_divides_the_published_file_as_published(shared_data: Path) -> None:
    from engine.data.division import divide

    source = shared_data / "pubmedqa" / "ori_pqal.json"
    profile = profile_file.read(shipped() / "domains" / "pubmedqa.toml", [f"data.0.source={source}"])
    division = divide(profile)
    assert [len(division.parts.train), len(division.parts.validation), len(division.parts.test)] == [450, 50, 500]
    assert division.choices == ("maybe", "no", "yes")
    example = division.example(division.parts.train[0])
    assert example.response.startswith(f"{example.label}. ")
    assert example.prompt.startswith("Answer the following medical question concisely. Question: ")
    assert example.input_text and example.prompt.endswith(example.input_text)
