"""A comparison says better, worse, kept or cannot tell for the right reasons, and only of what can be compared."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from engine.errors import Problem
from engine.evaluate import report
from engine.evaluate.answers import Said, read_answer
from engine.evaluate.behind import behind
from engine.evaluate.compare import Comparison, ComparisonRow, compare
from engine.evaluate.measures import measures, scores
from engine.evaluate.suites import Suite, SuiteItem
from engine.evaluate.wording import count, figure, interval, probability
from engine.ledger import Ledger
from tests.evaluated import answered, compared_run, decided, decisions, finished_run


def row_of(comparison: Comparison, suite: str, metric: str, against: str = "base") -> ComparisonRow:
    (found,) = [row for row in comparison.rows if (row.suite, row.metric, row.against) == (suite, metric, against)]
    return found


def test_better_with_what_was_lost_beside_it(ledger: Ledger, tmp_path: Path) -> None:
    run = compared_run(ledger, tmp_path)
    comparison = compare(ledger, [run])
    row = row_of(comparison, "pubmedqa", "accuracy")
    assert (row.base, row.value, row.n, row.won, row.lost) == (0.6, 0.97, 100, 40, 3)
    assert row.verdict == "better" and row.low > 0 and row.p is not None and row.p < 0.001
    assert row.difference == pytest.approx(0.37) and 0.05 < row.visible < 0.25
    assert comparison.headline == "tuned against its base: better 1, worse 0, kept 1, cannot tell 0"
    assert "It lost 3 answers that the base had right, won 40" in comparison.lines[0]
    assert "always saying no would get 50.0 on pubmedqa" in comparison.lines
    assert not comparison.worse and not comparison.missing
    assert row_of(comparison, "pubmedqa", "macro_f1").value > row_of(comparison, "pubmedqa", "macro_f1").base
    lost = behind(ledger, row)
    assert [one.outcome for one in lost] == ["lost"] * 3 + ["won"] * 40 + ["same"] * 57
    assert (lost[0].base.read, lost[0].tuned.read, lost[0].gold) == ("yes", "maybe", "yes")
    assert lost[0].base.right and not lost[0].tuned.right
    assert (figure("accuracy", row.value), count(row)) == ("97.0", "100")
    assert interval(row).startswith("+37.0 [+2") and probability(row.p) == "<.001"


def test_retention_is_kept_only_when_enough_was_asked(ledger: Ledger, tmp_path: Path) -> None:
    enough = row_of(compare(ledger, [compared_run(ledger, tmp_path)]), "retention", "retained")
    assert (enough.n, enough.value, enough.verdict) == (95, 1, "kept")
    few = row_of(compare(ledger, [compared_run(ledger, tmp_path / "few", "few", n=40)]), "retention", "retained")
    assert (few.n, few.value, few.verdict) == (35, 1, "cannot tell")
    run = finished_run(ledger, tmp_path / "b", "forgetful")
    suite = decisions(200, "retention-of-mine")
    answered(ledger, None, suite, decided(200, ()))
    answered(ledger, run, suite, decided(200, range(30)))
    comparison = compare(ledger, [run])
    row = row_of(comparison, "retention-of-mine", "retained")
    assert row.verdict == "worse" and row.value == 0.85 and comparison.worse
    assert "kept 85.0 %" in row.note and row.p is None
    assert not row_of(comparison, "retention-of-mine", "accuracy").main
    assert {one.outcome for one in behind(ledger, row)} == {"lost", "same"}


def test_a_little_difference_cannot_be_told(ledger: Ledger, tmp_path: Path) -> None:
    run = finished_run(ledger, tmp_path)
    suite = decisions(100)
    answered(ledger, None, suite, decided(100, range(10)))
    answered(ledger, run, suite, decided(100, range(5, 12)))
    row = row_of(compare(ledger, [run]), "pubmedqa", "accuracy")
    assert row.verdict == "cannot tell" and row.low < 0 < row.high and row.difference == pytest.approx(0.03)


def test_many_metrics_make_a_verdict_harder(ledger: Ledger, tmp_path: Path) -> None:
    run = finished_run(ledger, tmp_path)
    for number in range(6):
        suite = decisions(60, f"s{number}")
        answered(ledger, None, suite, decided(60, range(7) if number == 0 else range(1)))
        answered(ledger, run, suite, decided(60, range(1)))
    row = row_of(compare(ledger, [run]), "s0", "accuracy")
    alone = 2 * 0.5**6
    assert row.p == pytest.approx(6 * alone) and row.verdict == "cannot tell"


def test_only_like_is_compared_with_like(ledger: Ledger, tmp_path: Path) -> None:
    suite = decisions(20)
    run = finished_run(ledger, tmp_path)
    asked = compare(ledger, [run])
    assert asked.headline == "Nothing to compare yet for tuned" and not asked.rows
    assert asked.missing[0].command == "workbench evaluate tuned --suite retention"
    answered(ledger, run, suite, decided(20, ()))
    answered(ledger, None, suite, decided(20, ()), conditions='{"dtype": "bfloat16"}')
    answered(ledger, None, suite, decided(20, ()), model="another base")
    answered(ledger, None, Suite("pubmedqa", suite.items, "other bytes"), decided(20, ()))
    answered(ledger, None, suite, decided(20, ()), finish=False)
    asked = compare(ledger, [run])
    assert not asked.rows and "the base of tuned has not been asked" in asked.missing[0].what
    assert asked.missing[0].command == "workbench evaluate tuned --suite pubmedqa"


def test_a_result_that_was_trained_further_is_not_the_one_that_was_asked(ledger: Ledger, tmp_path: Path) -> None:
    run = compared_run(ledger, tmp_path)
    with ledger.transaction() as connection:
        connection.execute(
            "UPDATE run_document SET fingerprints = json_set(fingerprints, '$.result', 'newer') WHERE run = ?",
            (run.id,),
        )
    assert not compare(ledger, [run]).rows


def test_several_runs_against_base_and_against_the_first(ledger: Ledger, tmp_path: Path) -> None:
    first, second = compared_run(ledger, tmp_path, "first"), compared_run(ledger, tmp_path, "second", seed=1)
    comparison = compare(ledger, [first, second])
    assert {(row.run, row.against) for row in comparison.rows} == {
        ("first", "base"),
        ("second", "base"),
        ("second", "first"),
    }
    row = row_of(comparison, "pubmedqa", "accuracy", "first")
    assert (row.won, row.lost, row.verdict) == (1, 1, "cannot tell")
    other = finished_run(ledger, tmp_path, "other")
    answered(ledger, other, decisions(100), decided(100, ()), conditions='{"dtype": "bfloat16"}')
    missing = compare(ledger, [first, other]).missing
    assert any("different conditions" in one.what and "dtype float32 and bfloat16" in one.why for one in missing)


def paraphrased(answers: dict[str, str]) -> list[Said]:
    return [
        Said(text, choices={choice: float(choice == text) for choice in ("yes", "no")}) for text in answers.values()
    ]


def test_consistency_counts_pairs_and_the_worst_paraphrase(ledger: Ledger) -> None:
    items = [
        SuiteItem(f"q{number}", "Is it?", ("Is it so?", "So, is it?"), ("yes",), ("yes", "no")) for number in range(2)
    ]
    said = [["yes", "yes", "yes"], ["yes", "no", "yes"]]
    read = [
        read_answer(item, variant, Said(text, choices={"yes": float(text == "yes"), "no": float(text == "no")}))
        for item, texts in zip(items, said, strict=True)
        for variant, text in enumerate(texts)
    ]
    found = scores(read)
    assert found["consistency"] == pytest.approx((1 + 1 / 3) / 2)
    assert found["worst_variant"] == 0.5 and found["accuracy"] == pytest.approx(5 / 6)


def test_saying_nothing_twice_is_not_consistent() -> None:
    item = SuiteItem("q", "What is it?", ("It is what?", "Which?"), ("jitter",))
    read = [read_answer(item, variant, Said(text)) for variant, text in enumerate(["jitter", "", ""])]
    assert [one.extracted is None for one in read] == [False, True, True]
    assert scores(read)["consistency"] == 0


@pytest.mark.parametrize(
    ("trap", "twin", "j"),
    [("no", "yes", 1.0), ("no", "no", 0.0), ("yes", "yes", 0.0), ("yes", "no", -1.0)],
)
def test_j_sees_through_a_model_that_always_declines(trap: str, twin: str, j: float) -> None:
    items = (
        SuiteItem("t", "Is Zorbix real?", answer=("no",), choices=("yes", "no"), trap=True, twin="r"),
        SuiteItem("r", "Is iron real?", answer=("yes",), choices=("yes", "no"), trap=False),
    )
    read = [
        read_answer(item, 0, Said(text, choices={"yes": float(text == "yes"), "no": float(text == "no")}), ("no",))
        for item, text in zip(items, (trap, twin), strict=True)
    ]
    found = measures(read)
    assert found["j"].mean == j and "accuracy" not in found
    assert found["abstention"].mean == float(trap == "no") and found["refusal"].mean == float(twin == "no")


def test_free_traps_are_read_by_their_words() -> None:
    trap = SuiteItem("t", "What is Zorbix disease?", trap=True, twin="r")
    assert read_answer(trap, 0, Said("There is no such disease.")).correct == 1
    assert read_answer(trap, 0, Said("It is a disease of the skin.")).correct == 0
    twin = SuiteItem("r", "What is measles?", trap=False)
    assert read_answer(twin, 0, Said("It is an infection.")).correct == 1
    unknown = SuiteItem("u", "Who is Zorb?", answer=("unknown to me",), trap=True, twin="r")
    assert read_answer(unknown, 0, Said("That is unknown to me"), ("unknown to me",)).correct == 1


def test_free_text_is_scored_by_gold_rouge_and_surprise() -> None:
    item = SuiteItem("f", "Capital of France?", answer=("Paris",))
    read = [read_answer(item, 0, Said("<think>Lyon?</think>It is Paris.", gold_nll=0.5))]
    found = scores(read)
    assert found["accuracy"] == 1 and found["nll"] == 0.5 and 0 < found["rouge_l"] < 1
    assert read[0].extracted == "Paris"


def test_paraphrases_widen_the_interval(ledger: Ledger, tmp_path: Path) -> None:
    """Five paraphrases that fare alike say no more than one question."""
    alone = Suite(
        "alone", tuple(SuiteItem(f"q{n}", f"Is {n}?", answer=("yes",), choices=("yes", "no")) for n in range(40)), "a"
    )
    five = Suite(
        "five",
        tuple(
            SuiteItem(f"q{n}", f"Is {n}?", tuple(f"{n}{k}?" for k in range(4)), ("yes",), ("yes", "no"))
            for n in range(40)
        ),
        "b",
    )
    run = finished_run(ledger, tmp_path)
    for suite, times in ((alone, 1), (five, 5)):
        for who, wrong in ((None, range(15)), (run, range(10, 18))):
            said = [
                Said("x", choices={"yes": 0.0, "no": 1.0 if number in wrong else -1.0})
                for number in range(40)
                for _ in range(times)
            ]
            answered(ledger, who, suite, said)
    comparison = compare(ledger, [run])
    one, other = row_of(comparison, "alone", "accuracy"), row_of(comparison, "five", "accuracy")
    assert (one.n, other.n, other.answers) == (40, 40, 200) and count(other) == "40 (200)"
    assert other.high - other.low > 0.8 * (one.high - one.low)
    assert one.difference == pytest.approx(other.difference)


def test_answers_that_are_all_alike_do_not_show_that_any_difference_would_be_seen(
    ledger: Ledger, tmp_path: Path
) -> None:
    items = tuple(SuiteItem(f"q{n}", f"Is {n}?", (f"{n}?",), ("yes",), ("yes", "no")) for n in range(40))
    run = finished_run(ledger, tmp_path)
    for who in (None, run):
        answered(
            ledger,
            who,
            Suite("alike", items, "a"),
            [Said("x", choices={"yes": 0.0, "no": 1.0 * (n % 3 - 1)}) for n in range(80)],
        )
    comparison = compare(ledger, [run])
    for row in comparison.rows:
        if row.metric in ("accuracy", "consistency", "worst_variant", "macro_f1"):
            assert row.difference == 0 and row.low < 0 < row.high and row.visible > 0.01, row
    assert "sees from 0.0" not in "".join(comparison.lines)


def test_reports_are_whole_and_escaped(ledger: Ledger, tmp_path: Path) -> None:
    run = compared_run(ledger, tmp_path)
    nasty = Suite(
        "nasty|suite",
        tuple(
            SuiteItem(f"q{n}", "<script>alert(1)</script> | `x`", answer=("a",), choices=("a", "b")) for n in range(3)
        ),
        "n",
    )
    answered(ledger, None, nasty, [Said("<b>bold</b>", choices={"a": 1.0, "b": 0.0})] * 3)
    answered(ledger, run, nasty, [Said("</dd><script>x</script>", choices={"a": 0.0, "b": 1.0})] * 3)
    comparison = compare(ledger, [run])
    page = report.html(ledger, comparison)
    assert "<script" not in page and "&lt;script&gt;" in page and "<svg" in page and "http" not in page
    assert "3 of 3 lost answers" in page
    text = report.markdown(ledger, comparison)
    assert "<script" not in text and r"nasty\|suite" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace(r"\|", "").count("|") for line in table}) == 1 and len(table) == 2 + len(comparison.rows)
    report.write(ledger, comparison, tmp_path / "r.md")
    assert (tmp_path / "r.md").read_text().startswith("# tuned against its base")
    with pytest.raises(Problem, match=r"\.md or \.html"):
        report.write(ledger, comparison, tmp_path / "r.pdf")


def test_one_question_gives_finite_figures_or_open_ends(ledger: Ledger, tmp_path: Path) -> None:
    run = finished_run(ledger, tmp_path)
    suite = decisions(1)
    answered(ledger, None, suite, decided(1, ()))
    answered(ledger, run, suite, decided(1, (0,)))
    for row in compare(ledger, [run]).rows:
        assert row.verdict == "cannot tell" and not math.isnan(row.difference)
        assert interval(row)
