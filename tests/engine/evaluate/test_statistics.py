"""The statistics say what they claim: golden figures, simulated coverage, and agreement with the libraries that have a
part of them.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_rel
from sklearn.metrics import cohen_kappa_score, f1_score

from engine.evaluate import statistics as s
from engine.evaluate.tables import confusion, kappa, macro_f1, paired_table_difference

LABELS = ("yes", "no", "maybe")


def test_wilson_matches_published_intervals() -> None:
    # Newcombe 1998 (doi 10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E), table I, method 3.
    for successes, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        found = s.wilson(successes, n)
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert s.wilson(0, 0).low == 0 and s.wilson(0, 0).high == 1


def test_wilson_covers_what_it_says_where_the_textbook_interval_does_not() -> None:
    generator = np.random.default_rng(3)
    n, truth = 30, 0.05
    counts = generator.binomial(n, truth, 4000)
    wald = [abs(c / n - truth) <= 1.96 * math.sqrt(c / n * (1 - c / n) / n) for c in counts]
    ours = [s.wilson(int(c), n).low <= truth <= s.wilson(int(c), n).high for c in counts]
    assert np.mean(wald) < 0.85
    assert np.mean(ours) > 0.93


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_paired_binary_is_antisymmetric_and_holds_its_value(won: int, lost: int, same: int) -> None:
    n = won + lost + same
    if n == 0:
        return
    one, other = s.paired_binary(won, lost, n), s.paired_binary(lost, won, n)
    assert one.value == pytest.approx(-other.value) and one.p == pytest.approx(other.p)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert -1 <= one.low <= one.value <= one.high <= 1
    assert 0 < one.p <= 1


def test_mcnemar_by_hand() -> None:
    assert s.mcnemar_exact(0, 0) == 1
    assert s.mcnemar_exact(5, 0) == pytest.approx(2 * 0.5**5)
    assert s.mcnemar_exact(8, 2) == pytest.approx(2 * (45 + 10 + 1) / 1024)


@pytest.mark.parametrize(("n", "up", "down"), [(40, 0.15, 0.05), (100, 0.1, 0.1), (300, 0.02, 0.01)])
def test_paired_binary_covers_the_truth(n: int, up: float, down: float) -> None:
    draws = np.random.default_rng(4).multinomial(n, [up, down, 1 - up - down], size=3000)
    found = [s.paired_binary(int(won), int(lost), n) for won, lost, _ in draws]
    covered = np.mean([one.low <= up - down <= one.high for one in found])
    assert 0.93 <= covered <= 0.99


def test_clustered_interval_covers_where_a_naive_one_does_not() -> None:
    """60 questions in 5 paraphrases, all right or wrong mostly together."""
    generator = np.random.default_rng(5)
    clustered = naive = 0
    trials = 100
    for _ in range(trials):
        question = generator.normal(0, 0.3, 60)
        tuned = np.repeat(question, 5) + generator.normal(0, 0.3, 300) + 0.1
        base = np.zeros(300)
        by_question = s.clustered_bootstrap(base, tuned, [row // 5 for row in range(300)])
        half = 1.96 * tuned.std() / math.sqrt(300)
        clustered += by_question.low <= 0.1 <= by_question.high
        naive += abs(tuned.mean() - 0.1) <= half
    assert naive / trials < 0.85
    assert 0.90 <= clustered / trials <= 0.99


def test_bootstrap_agrees_with_student_on_normal_figures() -> None:
    generator = np.random.default_rng(6)
    base = generator.normal(0, 1, 200)
    tuned = base + generator.normal(0.2, 1, 200)
    found = s.clustered_bootstrap(base, tuned, range(len(base)))
    half = 1.97 * (tuned - base).std(ddof=1) / math.sqrt(200)
    assert found.high - found.value == pytest.approx(half, rel=0.08)
    assert found.p == pytest.approx(ttest_rel(tuned, base).pvalue, abs=0.01)
    assert s.clustered_bootstrap(base, base, range(len(base))).p == 1


def test_one_question_proves_nothing() -> None:
    assert (
        s.verdict(s.clustered_bootstrap([0, 0, 0], [1, 1, 1], [7, 7, 7]), 1.0, higher_is_better=True) == "cannot tell"
    )
    assert s.verdict(s.paired_binary(1, 0, 1), 1.0, higher_is_better=True) == "cannot tell"


def _questions_needed(difference: float, discordance: float) -> int:
    """Connor's formula as he gives it: for n, where `smallest_visible` is solved for the difference."""
    za, zb = s.Z, s.Z_POWER
    return math.ceil(((za * math.sqrt(discordance) + zb * math.sqrt(discordance - difference**2)) / difference) ** 2)


def test_smallest_visible_golden_figures() -> None:
    assert [_questions_needed(0.03, q) for q in (0.05, 0.10, 0.20)] == pytest.approx([434, 870, 1742], abs=1)
    for n, points in ((100, 8.8), (300, 5.1), (1000, 2.8)):
        assert 100 * s.smallest_visible(n) == pytest.approx(points, abs=0.05)


@given(st.integers(12, 5000), st.floats(0.01, 1))
def test_smallest_visible_is_what_its_number_of_questions_shows(n: int, discordance: float) -> None:
    d = s.smallest_visible(n, discordance)
    assert 0 < d <= 1
    if d < 1:
        assert _questions_needed(d, max(d, discordance)) == pytest.approx(n, abs=2)
    assert s.smallest_visible(4 * n, discordance) < d or d == 1


def test_power_of_the_exact_test_at_the_smallest_visible_difference() -> None:
    n, q = 400, 0.1
    d = s.smallest_visible(n, q)
    draws = np.random.default_rng(8).multinomial(n, [(q + d) / 2, (q - d) / 2, 1 - q], size=600)
    seen = np.mean([s.mcnemar_exact(int(won), int(lost)) < 0.05 for won, lost, _ in draws])
    assert 0.70 <= seen <= 0.86


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_order_and_never_lowers(p_values: list[float]) -> None:
    adjusted = s.holm(p_values)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    assert max(adjusted) <= min(1, len(p_values) * max(p_values)) + 1e-12
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    assert [adjusted[place] for place in order] == sorted(adjusted)


def test_holm_by_hand() -> None:
    assert s.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_retention_is_non_inferiority() -> None:
    kept_all = s.retention([True] * 200, [True] * 200)
    assert kept_all.level == "pass" and kept_all.kept.value == 1
    few = s.retention([True] * 20, [True] * 20)  # nothing lost, but too little asked
    assert few.level == "fail"
    warned = s.retention([True] * 262, [True] * 249 + [False] * 13)
    assert warned.level == "warn" and warned.losses == 13
    grown = s.retention([True, False, False], [False, True, False])
    assert (grown.n, grown.gains, grown.losses) == (1, 1, 1)


labelled = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=60)


@given(labelled)
@settings(max_examples=60)
def test_table_figures_equal_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    gold, said = [g for g, _ in pairs], [p for _, p in pairs]
    counts = confusion(gold, said, LABELS).counts
    assert float(macro_f1(counts)) == pytest.approx(
        f1_score(gold, said, labels=sorted(set(gold)), average="macro", zero_division=0)
    )
    theirs = cohen_kappa_score(gold, said) if len({*gold, *said}) > 1 else 0.0
    assert float(kappa(counts)) == pytest.approx(theirs)


def test_unparsed_is_a_miss_and_a_class_of_its_own() -> None:
    counts = confusion(["yes", "yes", "no"], ["yes", None, "no"], LABELS).counts
    assert counts[0, 3] == 1
    assert float(macro_f1(counts)) == pytest.approx((2 / 3 + 1) / 2)
    assert float(kappa(counts)) < 1


def test_lower_is_better_where_the_metric_says_so() -> None:
    lower = s.Difference(-0.3, -0.4, -0.2, 0.001, 0.1)
    assert s.verdict(lower, 0.001, higher_is_better=True) == "worse"
    assert s.verdict(lower, 0.001, higher_is_better=False) == "better"
    assert s.verdict(lower, 0.2, higher_is_better=False) == "cannot tell"


def test_table_difference_sees_a_real_gap_and_not_an_absent_one() -> None:
    generator = np.random.default_rng(9)
    gold = [LABELS[place] for place in generator.integers(0, 3, 300)]
    base = [label if keep else "yes" for label, keep in zip(gold, generator.random(300) < 0.4, strict=True)]
    tuned = [label if keep else "yes" for label, keep in zip(gold, generator.random(300) < 0.7, strict=True)]
    found = paired_table_difference(macro_f1, gold, base, tuned, LABELS)
    assert found.low > 0 and found.p < 0.001
    assert found.value == pytest.approx(f1_score(gold, tuned, average="macro") - f1_score(gold, base, average="macro"))
    again = paired_table_difference(macro_f1, gold, base, base, LABELS)
    assert again.value == 0 and again.p == 1
    assert again.low < 0 < again.high and 0.001 < again.visible < 0.05  # 300 questions do not see everything
