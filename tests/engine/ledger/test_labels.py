"""What people say of runs is kept, and when they said it; a name is one run's, a baseline one in its group."""

from __future__ import annotations

import pytest

from engine import removal
from engine.errors import Problem
from engine.ledger import Ledger, labels, runs, table
from engine.ledger.runs import Run
from tests.engine.ledger.test_table import ended, made


def edited(ledger: Ledger, run: Run) -> float:
    """When anything was last said of the run, summed over what it was: it rises with every word."""
    found = ledger.value("SELECT total(time) FROM said WHERE run = ?", (run.id,))
    assert isinstance(found, float)
    return found


def comparable(ledger: Ledger, run: Run, group: str) -> Run:
    with ledger.transaction() as connection:
        connection.execute("UPDATE run SET comparable = ? WHERE id = ?", (group, run.id))
    return runs.find(ledger, run.uid)


def test_tags_are_given_taken_and_counted(ledger: Ledger) -> None:
    a, b = made(ledger, "a"), made(ledger, "b")
    labels.tag(ledger, [a, b], "medical")
    labels.tag(ledger, [a], " best ")
    labels.tag(ledger, [a], "best")
    assert labels.tags(ledger, a) == ("best", "medical")
    assert labels.known_tags(ledger) == {"medical": 2, "best": 1}
    labels.untag(ledger, [a, b], "medical")
    assert (labels.tags(ledger, a), labels.tags(ledger, b)) == (("best",), ())
    labels.set_tags(ledger, a, ["x", "y"])
    assert labels.tags(ledger, a) == ("x", "y")


@pytest.mark.parametrize("name", ["", "  ", "a b", "a,b", "-a", "!a", "+a", 'a"b', "x" * 65, "a\x1b[2J"])
def test_what_the_filter_could_not_name_is_no_tag(ledger: Ledger, name: str) -> None:
    run = made(ledger, "a")
    with pytest.raises(Problem) as refused:
        labels.tag(ledger, [run], name)
    assert refused.value.code == "tag"
    with pytest.raises(Problem):
        labels.set_tags(ledger, run, ["fine", name])
    assert labels.tags(ledger, run) == () and edited(ledger, run) == 0


def test_each_word_says_when_it_was_said_even_if_the_clock_steps_back(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = comparable(ledger, made(ledger, "a"), "g")
    assert edited(ledger, run) == 0
    said = [0.0]
    for hour, say in enumerate(
        (
            lambda: labels.set_note(ledger, run, "good"),
            lambda: labels.tag(ledger, [run], "x"),
            lambda: labels.untag(ledger, [run], "x"),
            lambda: labels.set_tags(ledger, run, ["y"]),
            lambda: labels.rename(ledger, run, "b"),
            lambda: labels.set_baseline(ledger, run),
            lambda: labels.archive(ledger, [run]),
        )
    ):
        monkeypatch.setattr("time.time", lambda now=1e9 - 3600.0 * hour: now)
        say()
        said.append(edited(ledger, run))
        assert said[-1] > said[-2]
        changed = table.read(ledger, archived=True).changed
        say()  # said again it is no news
        assert (edited(ledger, run), table.read(ledger, archived=True).changed) == (said[-1], changed)


def test_what_is_archived_again_was_archived_when_it_was_first(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    labels.archive(ledger, [made(ledger, "a")])
    run = runs.find(ledger, "a")
    monkeypatch.setattr("time.time", lambda: 3e9)
    labels.archive(ledger, [run])
    assert runs.find(ledger, "a").archived == run.archived


def test_tags_of_what_is_in_the_bin_are_not_offered(ledger: Ledger) -> None:
    kept, binned = made(ledger, "kept"), made(ledger, "binned")
    labels.tag(ledger, [kept, binned], "medical")
    labels.tag(ledger, [binned], "old")
    ended(ledger, binned)
    removal.remove(ledger, binned)
    assert labels.known_tags(ledger) == {"medical": 1}


def test_what_is_said_of_a_run_that_is_gone_harms_nobody(ledger: Ledger) -> None:
    run = comparable(ledger, made(ledger, "a"), "g")
    with ledger.transaction() as connection:
        connection.execute("DELETE FROM run")
    labels.tag(ledger, [run], "x")
    labels.set_tags(ledger, run, ["y"])
    labels.set_note(ledger, run, "late")
    labels.rename(ledger, run, "b")
    labels.set_baseline(ledger, run)
    labels.archive(ledger, [run])
    assert ledger.value("SELECT count(*) FROM tag") == ledger.value("SELECT count(*) FROM run") == 0


def test_a_name_belongs_to_one_run(ledger: Ledger) -> None:
    a, b = made(ledger, "a"), made(ledger, "b")
    labels.rename(ledger, a, "  the good one ")
    assert runs.find(ledger, "the good one").id == a.id
    with pytest.raises(Problem, match="the good one is taken") as refused:
        labels.rename(ledger, b, "the good one")
    assert "the good one-2" in refused.value.do
    with pytest.raises(Problem, match=f"such as {a.uid}-2"):
        labels.rename(ledger, b, a.uid)
    for wrong in ("", " ", "x" * 129, "two\nlines"):
        with pytest.raises(Problem, match="cannot be called"):
            labels.rename(ledger, b, wrong)
    labels.rename(ledger, b, "b")


def test_a_baseline_takes_over_from_the_one_before_in_its_group_only(ledger: Ledger) -> None:
    a, b = (comparable(ledger, made(ledger, name), "one") for name in "ab")
    other = comparable(ledger, made(ledger, "c"), "two")
    for run in (a, other, b):
        labels.set_baseline(ledger, run)
    assert [run.name for run in runs.listed(ledger) if run.baseline] == ["c", "b"]
    labels.set_baseline(ledger, b, on=False)
    assert [run.name for run in runs.listed(ledger) if run.baseline] == ["c"]
    with pytest.raises(Problem, match="cannot be a baseline"):
        labels.set_baseline(ledger, made(ledger, "d"))
