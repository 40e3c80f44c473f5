"""Answers are read as a careful person would read them, and PubMedQA's published figures come out."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from engine.evaluate.scorers import declines, extract_choice, extract_text, matched_gold, normalise, rouge_l, words
from engine.evaluate.tables import confusion, kappa, macro_f1

DECISIONS = ("yes", "no", "maybe")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("yes", "yes"),
        ("Yes.", "yes"),
        ("  **No**, it does not.", "no"),
        ("No it isn't", "no"),
        ("maybe\nmore", "maybe"),
        ("Maybe — the data are thin", "maybe"),
        ("The answer is: no.", "no"),
        ("At first yes. Final decision: maybe", "maybe"),
        ("Answer: (yes)", "yes"),
        ("no. Adaption of the method was quick. Yes, it was.", "no"),
        ("No significant difference was found", None),
        ("Nothing is known", None),
        ("nose", None),
        ("The study did not say", None),
        ("Yesterday it rained", None),
        ("The answer is yes. The answer is no.", None),
        ("", None),
    ],
)
def test_yes_no_maybe(text: str, said: str | None) -> None:
    assert extract_choice(text, DECISIONS) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("The jitter is elevated, so the voice is rough.", "elevated"),
        ("Reading: normal", "normal"),
        ("normal or elevated", None),
        ("It is not normal", None),
        ("abnormal", None),
    ],
)
def test_choices_that_are_words(text: str, said: str | None) -> None:
    assert extract_choice(text, ("normal", "elevated")) == said


def test_letters_and_nested_choices() -> None:
    assert extract_choice("(B) because", ("A", "B", "C")) == "B"
    assert extract_choice("A patient came", ("A", "B", "C")) is None
    assert extract_choice("type 2 diabetes", ("diabetes", "type 2 diabetes")) == "type 2 diabetes"


def test_normalise_keeps_numbers_apart() -> None:
    assert normalise("The  Café, (Paris)!") == "café paris"
    assert words("1,000 -5 12.5 x") == ["1000", "-5", "12.5", "x"]
    assert matched_gold("It was 1945.", ["19"]) is None
    assert matched_gold("about 12.5 kg", ["12"]) is None
    assert matched_gold("about 1,000 kg", ["1000"]) == "1000"


def test_free_text_golds() -> None:
    golds = ["Paris", "City of Paris"]
    assert matched_gold("The capital of France is Paris.", golds) == "Paris"
    assert matched_gold("It is Lyon.\n\nQ: and Paris?", golds) is None
    assert extract_text("I think the city of Paris", golds) == "Paris"
    assert extract_text("Lyon, surely.\nOr not", golds) == "lyon surely"
    assert extract_text(" \n ", golds) is None
    long_gold = "plants make sugar from light water and carbon dioxide"
    assert matched_gold(f"Well, {long_gold}, I say", [long_gold]) is None


@given(st.text(max_size=60))
def test_any_text_is_read_without_an_error(text: str) -> None:
    said = extract_choice(text, DECISIONS)
    assert said is None or said in text.casefold()
    assert normalise(normalise(text)) == normalise(text)
    assert 0 <= rouge_l(text, "the cat sat") <= 1


@given(
    st.lists(st.sampled_from(["cat", "dog", "sat", "mat", "on"]), min_size=1, max_size=12),
    st.lists(st.sampled_from(["cat", "dog", "sat", "mat", "on"]), min_size=1, max_size=12),
)
def test_rouge_l_equals_the_reference_on_latin_text(said: list[str], gold: list[str]) -> None:
    theirs = RougeScorer(["rougeL"]).score(" ".join(gold), " ".join(said))["rougeL"].fmeasure
    assert rouge_l(" ".join(said), " ".join(gold)) == pytest.approx(theirs)


def test_rouge_l_reads_other_scripts() -> None:
    assert rouge_l("Париж столица", "Париж — столица Франции") == pytest.approx(4 / 5)
    assert rouge_l("東京は首都", "東京は首都です") > 0.8
    assert rouge_l("hello", "東京") == 0


@pytest.mark.parametrize(
    ("text", "is_declined"),
    [
        ("There is no such syndrome.", True),
        ("I am not aware of a study by that name. It may be new.", True),
        ("Velmont disease does not appear to exist.", True),
        ("I don't know.", True),
        ("This seems to be a fictional drug.", True),
        ("It is a disorder of connective tissue that may affect the aorta.", False),
        ("The results suggest that low-dose aspirin possibly helps.", False),
        ("No difference was found between the groups.", False),
    ],
)
def test_declines_are_statements_about_knowledge_not_hedges(text: str, is_declined: bool) -> None:
    assert declines(text) is is_declined


@pytest.fixture(scope="session")
def pubmedqa(shared_data: Path) -> tuple[dict[str, dict[str, str]], list[str]]:
    folder = shared_data / "pubmedqa"
    return json.loads((folder / "ori_pqal.json").read_text()), list(
        json.loads((folder / "test_ground_truth.json").read_text())
    )


def test_pubmedqa_majority_and_human(pubmedqa: tuple[dict[str, dict[str, str]], list[str]]) -> None:
    rows, test = pubmedqa
    gold = [rows[row]["final_decision"] for row in test]
    majority = confusion(gold, ["yes"] * len(gold), DECISIONS).counts
    assert majority.trace() / len(gold) == pytest.approx(0.552)
    assert float(macro_f1(majority)) == pytest.approx(0.237, abs=5e-4)
    human = confusion(gold, [rows[row]["reasoning_required_pred"] for row in test], DECISIONS).counts
    assert human.trace() / len(gold) == pytest.approx(0.780)
    assert float(macro_f1(human)) == pytest.approx(0.722, abs=5e-4)


def test_pubmedqa_two_humans_agree_by_kappa(pubmedqa: tuple[dict[str, dict[str, str]], list[str]]) -> None:
    rows, _ = pubmedqa
    one = [row["reasoning_required_pred"] for row in rows.values()]
    other = [row["reasoning_free_pred"] for row in rows.values()]
    assert float(kappa(confusion(one, other, DECISIONS).counts)) == pytest.approx(0.457, abs=5e-4)


def test_pubmedqa_answers_are_read_by_their_decision_and_conclusions_are_not(
    pubmedqa: tuple[dict[str, dict[str, str]], list[str]],
) -> None:
    rows = list(pubmedqa[0].values())
    conclusions = [row["LONG_ANSWER"] for row in rows]
    assert sum("no" in conclusion.lower() for conclusion in conclusions) == 563
    read = [extract_choice(conclusion, DECISIONS) for conclusion in conclusions]
    assert sum(said is not None for said in read) <= 20
    written = [f"{row['final_decision']}. {row['LONG_ANSWER']}" for row in rows]
    assert [extract_choice(text, DECISIONS) for text in written] == [row["final_decision"] for row in rows]
