"""Which setting mattered: what is planted is found, what is chance is not, and what cannot be told is said."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.ledger import Ledger, evidence, forest, importance, metrics, runs, verdict
from engine.ledger.importance import Setting, Study

Planted = tuple[list[dict[str, object]], list[float | None]]


def planted(count: int, seed: int = 1) -> Planted:
    """Runs whose loss has its lowest at a rate of 1e-4, is worse with one schedule and falls a little with the rank; the rest does nothing."""
    draw = np.random.default_rng(seed)
    settings: list[dict[str, object]] = []
    losses: list[float | None] = []
    for number in range(count):
        rate, rank = 10 ** draw.uniform(-5, -3), int(draw.choice([4, 8, 16, 32]))
        schedule = str(draw.choice(["cosine", "linear", "constant"]))
        settings.append(
            {
                "title": f"run {number}",
                "training.learning_rate": rate,
                "method.rank": rank,
                "method.alpha": 2 * rank,
                "training.schedule": schedule,
                "training.seed": int(draw.integers(1000)),
                "model.base": "base",
                "data.0.source": f"{number}.jsonl",
            }
        )
        bowl = 0.3 * abs(math.log10(rate) + 4)
        losses.append(1 + bowl + 0.1 * (schedule == "constant") - 0.03 * math.log2(rank) + float(draw.normal(0, 0.02)))
    return settings, losses


def by_name(study: Study) -> dict[str, Setting]:
    return {each.names[0]: each for each in study.settings}


def test_a_setting_that_matters_in_one_direction_is_told_by_its_correlation() -> None:
    found = by_name(importance.study(*planted(120)))
    rank = found["method.alpha"]
    assert rank.names == ("method.alpha", "method.rank"), "what changed only together is one line"
    assert rank.correlation is not None and rank.low is not None and rank.high is not None
    assert rank.clear and 0 < rank.low < rank.correlation < rank.high < 1, "positive: more of it, better runs"
    assert found["training.schedule"].clear and not found["training.seed"].clear


def test_with_a_metric_that_should_be_high_the_direction_turns_round() -> None:
    settings, losses = planted(120)
    turned = by_name(importance.study(settings, [-loss for loss in losses if loss], higher_is_better=True))
    straight = by_name(importance.study(settings, losses))
    assert turned["method.alpha"].correlation == pytest.approx(straight["method.alpha"].correlation)


def test_a_forest_sees_what_no_correlation_can() -> None:
    study = forest.grown(importance.study(*planted(120)))
    rate = by_name(study)["training.learning_rate"]
    assert not rate.clear, "a bowl has no direction"
    assert rate.share is not None and rate.share > 0.5
    assert study.explained is not None and study.explained > 0.5
    low, high = rate.best
    assert isinstance(low, float) and isinstance(high, float) and 1e-5 < low < 1e-4 < high < 1e-3
    assert verdict.strongest(study)[0] is rate and verdict.matters(study, rate)
    assert sum(each.share or 0 for each in study.settings) == pytest.approx(1)


@pytest.mark.parametrize("limit", [math.inf, 1e300, 10**400], ids=["infinite", "large", "whole"])
def test_a_forest_takes_a_setting_without_a_limit(limit: float) -> None:
    settings, losses = planted(60)
    limited = [{**each, "limit": limit if number % 3 else 1} for number, each in enumerate(settings)]
    assert by_name(forest.grown(importance.study(limited, losses)))["limit"].share is not None


def test_of_noise_nothing_is_told() -> None:
    settings, _ = planted(60)
    losses: list[float | None] = list(np.random.default_rng(3).normal(size=60))
    study = forest.grown(importance.study(settings, losses))
    assert not any(each.clear for each in study.settings)
    assert study.explained is not None and study.explained <= 0
    assert all(each.share is None for each in study.settings), "a forest that knows nothing owes it to nobody"
    assert verdict.answer("validation/loss", "best", study).startswith("Of no setting can it be told")
    assert "foretells nothing" in verdict.forest_words(study)


def test_what_is_left_out_is_counted_and_named() -> None:
    study = importance.study(*planted(30))
    assert study.constant == 1 and study.own == ("data.0.source",)
    assert "title" not in {name for each in study.settings for name in each.names}


def test_few_runs_are_warned_of_with_the_number_that_would_do() -> None:
    few, many = importance.study(*planted(12)), importance.study(*planted(120))
    nothing = evidence.Evidence((), (), 0, 0)
    assert few.needed == many.needed == 45, "four lines: 33 for one setting, more where more are looked at"
    assert few.least is not None and many.least is not None and few.least > 0.6 > 0.3 > many.least
    assert "45" in verdict.warnings(nothing, few)[0]
    assert verdict.warnings(nothing, many) == []


@pytest.mark.parametrize(("runs", "chance"), [(4, 2 / 24), (5, 2 / 120), (12, 1e-4)])
def test_a_whole_correlation_is_as_likely_by_chance_as_runs_are_few(runs: int, chance: float) -> None:
    """With four runs each order comes once in 24, and its reverse is as good: no setting can be told to matter."""
    study = importance.study([{"method.rank": number} for number in range(runs)], [float(n) for n in range(runs)])
    assert study.settings[0].strength == pytest.approx(1) and study.settings[0].p == pytest.approx(chance)
    told = verdict.answer("train/loss", "best", study), *verdict.warnings(evidence.Evidence((), (), 0, 0), study)
    assert told[0].startswith("method.rank had to do with" if runs > 4 else "Of no setting can it be told")
    assert ("whatever is seen may be chance" in told[1]) == (runs == 4)


@pytest.mark.parametrize("kind", ["number", "choice"])
def test_of_few_runs_with_equal_values_p_is_the_share_of_orders(kind: str) -> None:
    """Ten runs, five of each: 2 of the 252 ways to choose five have all the best ones together."""
    values = (1, 2) if kind == "number" else ("a", "b")
    study = importance.study([{"x": values[n // 5]} for n in range(10)], [float(n) for n in range(10)])
    assert study.settings[0].kind == kind and study.settings[0].p == pytest.approx(2 / 252, abs=0.003)


def test_the_interval_of_a_correlation_and_what_many_looks_cost_are_those_of_the_literature() -> None:
    low, high = importance._interval(0.5, 28)  # half width 1.96 * sqrt(1.125 / 25) behind Fisher's z
    assert (low, high) == (pytest.approx(0.13274, abs=1e-5), pytest.approx(0.74654, abs=1e-5))
    assert importance._holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_fewer_than_four_runs_say_nothing(count: int) -> None:
    study = importance.study(*planted(count))
    assert study.settings == ()
    assert forest.grown(study) is study
    assert "nothing of settings" in verdict.answer("validation/loss", "best", study)


def test_the_same_settings_cannot_have_mattered() -> None:
    study = importance.study([{"method.rank": 8}] * 6, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert "nothing can have mattered" in verdict.answer("validation/loss", "best", study)


def test_a_metric_that_is_the_same_in_all_runs_says_nothing_of_any() -> None:
    settings, losses = planted(20)
    study = forest.grown(importance.study(settings, [1.0] * len(losses)))
    assert not any(each.clear for each in study.settings) and study.explained is None


def test_settings_that_nearly_changed_together_are_said() -> None:
    settings, losses = planted(60)
    for place, each in enumerate(settings):
        each["training.warmup"] = float(str(each["training.learning_rate"])) * (1 + 0.01 * (place % 3))
    assert by_name(importance.study(settings, losses))["training.warmup"].like == ("training.learning_rate",)


def test_random_searches_are_not_taken_for_settings_that_change_together() -> None:
    draw = np.random.default_rng(0)
    settings = [{"training.learning_rate": draw.uniform(), "method.dropout": draw.uniform()} for _ in range(20)]
    study = importance.study(settings, list(draw.normal(size=20)))
    assert [each.names for each in study.settings if len(each.names) > 1] == [] and len(study.settings) == 2


def test_figures_are_written_without_what_says_nothing() -> None:
    assert [verdict.hundredths(each) for each in (0.663, -0.071, -0.001, 1.0, -1.0, 0.998)] == [
        ".66",
        "-.07",
        ".00",
        "1.00",
        "-1.00",
        "1.00",
    ]


Value = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-1e6, 1e6) | st.sampled_from(["a", "b"])


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from(["m.a", "m.b", "m.c", "m.d"]), Value, max_size=4),
            st.none() | st.floats(allow_nan=True, allow_infinity=True),
        ),
        max_size=16,
    )
)
def test_whatever_runs_have_the_figures_are_figures(found: list[tuple[dict[str, object], float | None]]) -> None:
    study = importance.study([settings for settings, _ in found], [value for _, value in found])
    assert study.runs == sum(value is not None and math.isfinite(value) for _, value in found)
    for each in study.settings:
        assert 0 <= each.strength <= 1 and 0 <= each.p <= 1
        if each.low is not None and each.high is not None and each.correlation is not None:
            assert -1 <= each.low <= each.correlation <= each.high <= 1


def test_only_runs_that_may_be_compared_are_held_against_each_other(ledger: Ledger, tmp_path: Path) -> None:
    made = []
    for number in range(6):
        run = runs.create(ledger, name="r", runs_folder=tmp_path, profile="", settings={"method.rank": number})
        with metrics.Writer(ledger, run.id) as writer:
            writer.log(1, {"validation/loss": math.nan if number == 5 else float(number), "train/rate": 1.0})
        with ledger.transaction() as connection:
            group = "one" if number < 3 else "other"
            connection.execute("UPDATE run SET comparable = ? WHERE id = ?", (group, run.id))
        made.append(run)
    listed = runs.listed(ledger)
    found = evidence.gathered(ledger, listed, "validation/loss")
    assert sorted(found.values) == [0.0, 1.0, 2.0] and found.others == 2 and found.without == 1
    assert sorted(each["method.rank"] for each in found.settings) == [0, 1, 2]  # type: ignore[type-var]
    assert not found.unknown
    assert len(evidence.gathered(ledger, listed, "train/rate").values) == 6, "a rate means the same everywhere"
    assert evidence.metrics_of(ledger, listed) == ["validation/loss", "train/rate"]
    assert (
        "2 more runs were validated on something else"
        in verdict.warnings(found, importance.study(found.settings, found.values))[-1]
    )


def test_of_runs_that_nobody_knows_to_be_comparable_that_is_said(ledger: Ledger, tmp_path: Path) -> None:
    """Imported ones, say: their validation rows were never seen here."""
    for number in range(5):
        run = runs.create(ledger, name="r", runs_folder=tmp_path, profile="", settings={"method.rank": number})
        with metrics.Writer(ledger, run.id) as writer:
            writer.log(1, {"validation/loss": float(number), "train/rate": 1.0 + number})
    for metric, said in (("validation/loss", True), ("train/rate", False)):
        found = evidence.gathered(ledger, runs.listed(ledger), metric)
        told = verdict.warnings(found, importance.study(found.settings, found.values))
        assert any("Nobody knows" in line for line in told) == said
