"""What the table of runs is made of: runs in order and in groups, columns that fit, filters that remember, runs that are followed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.filtering import parse
from engine.ledger import Ledger, labels, metrics, runs, table
from engine.ledger.states import State
from engine.ledger.table import Row
from screens.runs import columns, grouping
from screens.runs.following import FIRST, Following
from screens.runs.reading import Reading, Snapshot, Wanted
from screens.runs.scene import VERSUS, Scene, leaders
from screens.session import View
from screens.widgets.cells import MARGIN
from tests.benchmarks.many_runs import fill

NOW = 1_773_320_700.0
VALUES = st.one_of(st.none(), st.floats(), st.integers(-5, 5), st.text(max_size=3), st.booleans())


@pytest.fixture
def many(ledger: Ledger, tmp_path: Path) -> Ledger:
    """300 runs: sweeps, tags, several bases, failures, values that are not finite."""
    fill(ledger, tmp_path / "runs", 300, now=NOW)
    return ledger


def settled(reading: Reading, wanted: Wanted) -> Snapshot:
    while (snapshot := reading.read(NOW, wanted)).more:
        pass
    return snapshot


def rows_of(ledger: Ledger) -> tuple[Row, ...]:
    return table.read(ledger, ("validation/loss",), archived=True).rows


# Order and groups


@given(st.lists(VALUES, max_size=30), st.booleans())
def test_an_order_keeps_every_run_and_puts_those_without_a_value_last(
    values: list[float | str | None], descending: bool
) -> None:
    row = Row(*range(len(Row._fields)))  # type: ignore[arg-type]
    rows = [row._replace(id=place) for place in range(len(values))]
    places = [each.id for each in grouping.ordered(rows, lambda each: values[each.id], descending=descending)]
    assert sorted(places) == list(range(len(values)))
    found = [values[place] for place in places]
    has = [not (value is None or value == "" or (isinstance(value, float) and math.isnan(value))) for value in found]
    assert has == sorted(has, reverse=True)
    numbers = [value for value, there in zip(found, has, strict=True) if there and not isinstance(value, str)]
    assert numbers == sorted(numbers, reverse=descending)
    same = [place for place in places if values[place] == 1]
    assert same == sorted(same), "equal ones stay in their order"


def test_a_run_with_two_tags_stands_in_both_groups_and_one_without_stays_alone(many: Ledger) -> None:
    first, second, third = rows_of(many)[:3]
    rows = [first._replace(tags=("a", "b")), second._replace(tags=()), third._replace(tags=("b",))]
    groups = grouping.grouped(rows, "tag", lambda row: row.tags)
    folded = list(grouping.lines(groups, frozenset()))
    assert [(item.key, len(item.uids)) for item in folded] == [("tag a", 1), ("tag b", 2), (second.uid, 1)]
    opened = list(grouping.lines(groups, frozenset(["tag b"])))
    assert [item.row.uid for item in opened if item.row and item.group] == [first.uid, third.uid]
    assert len({item.key for item in opened}) == len(opened)


# Columns


@pytest.mark.parametrize(
    ("name", "high_first"), [("loss", False), ("name", False), ("train/mfu", True), ("train/mfu.smooth", True)]
)
def test_who_sorts_has_the_best_on_top_and_then_the_other_way_round(name: str, high_first: bool) -> None:
    once = columns.sorted_by(View(), name)
    assert (once.sort, once.descending) == (name, high_first)
    assert columns.sorted_by(once, name).descending is not high_first


@pytest.mark.parametrize(
    ("name", "title"), [("rank 7", "▸ rank 7 (0)"), ("effective_batch 768", "▸ effective_ba…h 768 (0)")]
)
def test_a_group_keeps_the_end_of_its_name(name: str, title: str) -> None:
    assert grouping.Item("", None, grouping.Group("sweep", name, ())).title == title


def test_the_best_of_a_group_is_the_highest_where_that_is_better(ledger: Ledger, tmp_path: Path) -> None:
    key = "validation/accuracy"
    for name, value in (("a", 0.2), ("b", 0.9), ("c", 0.5)):
        run = runs.create(ledger, name=name, runs_folder=tmp_path, profile="", settings={})
        with metrics.Writer(ledger, run.id) as log:
            log.log(1, {key: value, "train/loss": value})
    rows = table.read(ledger, (key, "train/loss")).rows
    assert (Scene().best(rows, key), Scene().best(rows, "train/loss")) == (0.9, 0.2)


@pytest.mark.parametrize("room", [60, 79, 107, 160, 240])
def test_the_columns_fit_and_say_what_differs(many: Ledger, room: int) -> None:
    reading = Reading(many)
    shown = settled(reading, Wanted(room=room)).shown
    assert MARGIN + sum(each.column.width + 1 for each in shown) - 1 <= max(room, 62)
    names = [each.name for each in shown]
    assert names[0] == "name" and {"state", "step", "loss", "best"} < set(names)
    assert ("training.learning_rate" in names) == (room >= 79)
    assert "model.quantization" not in names, "it is the same in all"


def test_settings_that_do_not_differ_among_the_shown_leave_the_table(many: Ledger) -> None:
    reading = Reading(many)
    wide = {each.name for each in settled(reading, Wanted(room=200)).shown}
    few = {each.name for each in settled(reading, Wanted("rank=16", room=200)).shown}
    assert "method.rank" in wide and "method.rank" not in few


def test_chosen_columns_are_shown_in_their_order_whatever_fits(many: Ledger) -> None:
    chosen = View(columns=("gpu", "train/loss.best", "name", "nothing.like.it"), sort="gpu")
    snapshot = settled(Reading(many), Wanted(view=chosen, room=40))
    assert [each.name for each in snapshot.shown] == ["name", "gpu", "train/loss.best", "nothing.like.it"]
    line = columns.cells(snapshot.lines[0], snapshot.shown, snapshot.scene)
    assert line[1][0] == "2x RTX 4090" and line[3][0] == "–"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("lr", 2e-4, "2e-4"),
        (VERSUS, -0.0214, "-2.1%"),
        (VERSUS, 12.0, "+1200%"),
        ("loss", math.nan, "NaN"),
        ("method.rank", 16, "16"),
        ("tag", ("a", "b"), "a, b"),
        ("method.dora", False, "no"),
        ("note", "", "–"),
        ("model.base", "owner/name", "name"),
    ],
)
def test_figures_take_few_columns(name: str, value: float | str | tuple[str, ...], text: str) -> None:
    assert columns.figure(name, value) == text


def test_a_group_says_what_its_runs_have_in_common(many: Ledger) -> None:
    snapshot = settled(Reading(many), Wanted(view=View(group="sweep"), room=240))
    group = next(item for item in snapshot.lines if item.group is not None)
    line = dict(
        zip([each.name for each in snapshot.shown], columns.cells(group, snapshot.shown, snapshot.scene), strict=True)
    )
    best = min(row.metrics["validation/loss"].best for row in group.group.rows if row.metrics)
    assert line["best"][0] == f"{best:.3f}".removeprefix("0")
    varied = group.group.name.partition(" ")[0]
    key = next(name for name in line if name.endswith(varied))
    assert line[key][0] == "–"


# Baselines


def test_a_run_is_held_against_its_baseline_only_where_that_may_be(many: Ledger) -> None:
    baseline, *_ = [row for row in rows_of(many) if row.comparable == "rows-0" and row.metrics]
    labels.set_baseline(many, runs.by_ids(many, [baseline.id])[0])
    snapshot = settled(Reading(many), Wanted(room=120))
    assert VERSUS in [each.name for each in snapshot.shown]
    for row in snapshot.passing:
        above = snapshot.scene.value(row, VERSUS)
        if row.comparable != "rows-0" or row.uid == baseline.uid or not row.metrics:
            assert above is None
        else:
            its, mine = baseline.metrics["validation/loss"].best, row.metrics["validation/loss"].best
            assert above == pytest.approx((mine - its) / its)


def test_without_a_known_comparison_there_is_no_leader() -> None:
    assert Scene().leaders == frozenset()


# Following


def test_settings_come_in_portions_and_all_in_the_end(ledger: Ledger, tmp_path: Path) -> None:
    fill(ledger, tmp_path / "runs", FIRST + 50, now=NOW)
    followed = Following(ledger)
    followed.look(frozenset())
    assert len(followed.rows) == FIRST + 50 and len(followed.settings) == FIRST and not followed.complete
    followed.look(frozenset())
    assert followed.complete and followed.settings == table.settings(ledger)


def test_who_leads_is_known_after_every_change(many: Ledger) -> None:
    followed = Following(many)
    for step in range(1, 7):
        followed.look(frozenset(["validation/loss"]))
        assert followed.leaders == leaders(followed.rows) != frozenset()
        leading = next(row for row in followed.rows if row.id in followed.leaders)
        beaten = next(row for row in followed.rows if row.comparable == leading.comparable and row is not leading)
        if step % 2:
            with metrics.Writer(many, beaten.id) as log:
                log.log(10_000 + step, {"validation/loss": 0.1 / step})
        else:
            labels.rename(many, runs.by_ids(many, [beaten.id])[0], f"another-{step}")
            with many.transaction() as connection:
                connection.execute("UPDATE run SET deleted = 1 WHERE id = ?", (leading.id,))


def test_what_changes_is_followed_and_what_does_not_stays_the_same_row(many: Ledger) -> None:
    followed = Following(many)
    followed.look(frozenset(["validation/loss"]))
    before, at = {row.id: row for row in followed.rows}, followed.rows_at
    followed.look(frozenset(["validation/loss"]))
    assert followed.rows_at == at
    changed, gone, *_ = followed.rows
    labels.set_note(many, runs.by_ids(many, [changed.id])[0], "good")
    labels.archive(many, runs.by_ids(many, [followed.rows[5].id]))
    with many.transaction() as connection:
        connection.execute("UPDATE run SET deleted = 1 WHERE id = ?", (gone.id,))
    followed.look(frozenset(["validation/loss"]))
    after = {row.id: row for row in followed.rows}
    assert after[changed.id].note == "good" and gone.id not in after
    assert sum(after[run] is not before[run] for run in after) == 2
    assert followed.rows_at == at + 1


@pytest.mark.parametrize(
    "text",
    ["state=fin loss<1 tag:medical", "lr>=1e-4 rank=16 -tag:draft", "model~qwen loss=nan,0.9", "sweep~rank best>.8"],
)
def test_a_filter_that_is_typed_and_taken_back_gives_what_it_gives_at_once(many: Ledger, text: str) -> None:
    reading, settings = Reading(many), table.settings(many)
    fields = settled(reading, Wanted()).fields
    scene, rows = Scene(NOW, settings), rows_of(many)
    typed = [text[:end] for end in range(len(text) + 1)]
    for each in (*typed, *reversed(typed)):
        found = reading.read(NOW, Wanted(each, view=View(sort="best"))).passing
        only = parse(each, fields)
        expected = {row.uid for row in rows if only.holds(lambda name, row=row: scene.value(row, name))}  # type: ignore[misc]
        assert {row.uid for row in found} == expected, each


def test_a_filter_holds_anew_when_settings_have_become_known(ledger: Ledger, tmp_path: Path) -> None:
    fill(ledger, tmp_path / "runs", FIRST + 50, now=NOW)
    reading, wanted = Reading(ledger), Wanted("rank=16")
    assert reading.read(NOW, wanted).more
    known = table.settings(ledger)
    expected = {row.uid for row in rows_of(ledger) if known[row.id].get("method.rank") == 16}
    assert {row.uid for row in settled(reading, wanted).passing} == expected


def test_a_filter_by_age_holds_anew_as_time_goes_by(many: Ledger) -> None:
    reading, wanted = Reading(many), Wanted("age<2d")
    newest = max(row.created for row in rows_of(many))
    settled(reading, wanted)
    assert reading.read(newest + 86400, wanted).passing
    assert not reading.read(newest + 3 * 86400, wanted).passing


def test_a_run_that_changes_passes_or_not_from_then_on(many: Ledger) -> None:
    reading = Reading(many)
    settled(reading, Wanted())
    (row, *_) = [row for row in reading.read(NOW, Wanted("state=stopped")).passing if row.step]
    with many.transaction() as connection:
        connection.execute("UPDATE run SET state = ? WHERE id = ?", (State.FINISHED, row.id))
    assert row.uid not in {each.uid for each in reading.read(NOW, Wanted("state=stopped")).passing}
    assert row.uid in {each.uid for each in reading.read(NOW, Wanted("state=finished")).passing}
    assert runs.find(many, row.uid).state is State.FINISHED


def test_archived_runs_are_out_of_sight_until_they_are_asked_for(many: Ledger) -> None:
    reading = Reading(many)
    (row, *_) = reading.read(NOW, Wanted()).passing
    labels.archive(many, runs.by_ids(many, [row.id]))
    snapshot = reading.read(NOW, Wanted())
    assert (len(snapshot.runs), snapshot.archived) == (299, 1)
    assert [each.uid for each in reading.read(NOW, Wanted("archived=yes")).passing] == [row.uid]
