"""Several sources: a weight is how often a row is seen in an epoch, fractions too, whatever columns the sources have."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import profile
from engine.data.division import divide
from engine.data.mixing import mixture, repeats_of
from engine.data.opened import look, open_data
from engine.data.prepare import changed_sources, load, prepare
from engine.errors import Problem
from engine.profile import Profile
from engine.profile_file import dump
from tests.tiny import tiny_profile, write_rows

WEIGHT = st.floats(0.01, 5, allow_nan=False).map(lambda weight: round(weight, 2))


@given(weight=WEIGHT, rows=st.integers(1, 200), seed=st.integers(0, 3))
def test_rows_are_seen_as_often_as_their_weight_says(weight: float, rows: int, seed: int) -> None:
    names = [f"row {number}" for number in range(rows)]
    found = repeats_of(weight, range(rows), names, seed)
    assert found == repeats_of(weight, range(rows), names, seed)
    assert set(found) == set(range(rows))
    assert max(found.values()) - min(found.values()) <= 1
    assert abs(sum(found.values()) - weight * rows) <= (0.5 if weight >= 1 or weight * rows >= 0.5 else 1)


def test_a_larger_weight_only_adds_rows_and_another_seed_takes_others() -> None:
    names = [f"row {number}" for number in range(100)]
    less, more, other = (
        {row for row, times in repeats_of(weight, range(100), names, seed).items() if times}
        for weight, seed in ((0.3, 7), (0.5, 7), (0.5, 8))
    )
    assert (len(less), len(more)) == (30, 50)
    assert less < more
    assert more != other


def test_shares_add_up() -> None:
    parts = mixture([("a", 2.0), ("b", 0.5)], [{0: 2, 1: 2}, {2: 1, 3: 0, 4: 1, 5: 0}])
    assert [(part.rows, part.seen, round(part.share, 3)) for part in parts] == [(2, 4, 0.667), (4, 2, 0.333)]


def mixed(base: Path, folder: Path, weights: tuple[float, float], **more: object) -> Profile:
    """40 rows of instructions and 30 conversations, which have no column in common."""
    settings = tiny_profile(base, write_rows(folder / "rows.jsonl", 40), **{"split.validation": 0.25, **more})
    turns = (
        [{"role": "user", "content": f"Is voice {number} rough?"}, {"role": "assistant", "content": "No."}]
        for number in range(30)
    )
    (folder / "chat.jsonl").write_text("".join(json.dumps({"conversations": each}) + "\n" for each in turns))
    first = settings.data[0].model_copy(update={"weight": weights[0]})
    second = profile.Data(source=str(folder / "chat.jsonl"), weight=weights[1])
    return settings.model_copy(update={"data": (first, second)})


def test_half_a_weight_sees_half_of_the_rows_and_validation_is_not_weighted(tiny_base: Path, tmp_path: Path) -> None:
    settings = mixed(tiny_base, tmp_path, (2, 0.5), **{"split.stratify": "label"})
    division = divide(settings)
    made = prepare(settings, tmp_path / "run")
    trained = {
        name: [row for row in division.parts.train if division.ids[row].startswith(name)] for name in ("rows", "chat")
    }
    seen = Counter(name.split(".")[0] for name in made.train.row_ids)
    assert seen == {"rows": 2 * len(trained["rows"]), "chat": round(len(trained["chat"]) / 2)}
    assert len(made.train) == division.train_rows
    assert len(made.validation) == len(division.parts.validation) == len(set(made.validation.row_ids))
    assert max(Counter(made.train.row_ids).values()) == 2


def test_the_mixture_is_reported(tiny_base: Path, tmp_path: Path) -> None:
    file = tmp_path / "mixed.toml"
    file.write_text(dump(mixed(tiny_base, tmp_path, (1, 0.5))))
    looked = look(open_data(str(file)), lambda done, total: None, lambda: False)
    assert [part.source for part in looked.mixture] == ["rows.jsonl", "chat.jsonl"]
    assert [part.weight for part in looked.mixture] == [1, 0.5]
    assert sum(part.share for part in looked.mixture) == pytest.approx(1)
    assert looked.report.shape == "instruction+input, messages"


@pytest.mark.parametrize(
    ("objective", "wanted"), [("dpo", "chosen and rejected"), ("orpo", "chosen and rejected"), ("pretrain", "text")]
)
def test_columns_that_an_objective_needs_are_named(
    objective: str, wanted: str, tiny_base: Path, tmp_path: Path
) -> None:
    settings = tiny_profile(tiny_base, write_rows(tmp_path / "rows.jsonl", 4), **{"training.objective": objective})
    with pytest.raises(Problem, match=f"training.objective = {objective} needs {wanted} from rows.jsonl") as caught:
        divide(settings)
    assert f"{wanted.split()[0]} = " in caught.value.do
    guessing = settings.data[0].model_copy(update={"columns": {}})
    with pytest.raises(Problem, match=f"rows.jsonl has no columns that look like {wanted}"):
        divide(settings.model_copy(update={"data": (guessing,)}))


def test_sft_of_preferences_names_what_it_lacks(tiny_base: Path, tmp_path: Path) -> None:
    data = profile.Data(source=str(write_rows(tmp_path / "rows.jsonl", 4)), columns={"instruction": "instruction"})
    settings = tiny_profile(tiny_base, tmp_path / "rows.jsonl").model_copy(update={"data": (data,)})
    with pytest.raises(Problem, match=r"objective = sft needs response from rows.jsonl"):
        divide(settings)


def test_a_source_that_changed_or_went_since_it_was_prepared_is_named(tiny_base: Path, tmp_path: Path) -> None:
    settings = mixed(tiny_base, tmp_path, (1, 1))
    prepare(settings, tmp_path / "run")
    kept = load(tmp_path / "run")
    assert changed_sources(settings, kept) == ()
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"instruction": "Is it?", "output": "Yes."}\n')
    assert changed_sources(settings, kept) == (str(tmp_path / "rows.jsonl"),)
    (tmp_path / "chat.jsonl").unlink()
    assert changed_sources(settings, kept) == (str(tmp_path / "rows.jsonl"), str(tmp_path / "chat.jsonl"))
    again = load(tmp_path / "run")
    assert again.train.row_ids == kept.train.row_ids
