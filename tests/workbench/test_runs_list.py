"""`workbench runs list`: filters, orders, columns, and what a typo is told."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from engine.ledger import Ledger, labels, runs
from engine.ledger.runs import Run
from engine.ledger.states import State
from engine.ledger.writer import Writer
from tests.workbench.test_runs import make_run, said
from workbench import cli


def names(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """The names of the runs in the order in which they are listed."""
    return [run["name"] for run in json.loads(said(capsys, "runs", "list", "--json", *words))]


@pytest.fixture
def three(ledger: Ledger) -> dict[str, Run]:
    """`small`, `large` and `broken`, the newest; their best validation losses are 1.0, 0.5 and NaN."""
    made = {
        "small": make_run(ledger, "small", rank=8),
        "large": make_run(ledger, "large", rank=64),
        "broken": make_run(ledger, "broken", State.FAILED, rank=16),
    }
    for name, loss in (("large", 0.5), ("broken", math.nan)):
        with Writer(ledger, made[name].id) as writer:
            writer.log(9, {"validation/loss": loss, "validation/accuracy": 0.9 if name == "large" else 0.1})
    labels.tag(ledger, [made["small"], made["broken"]], "medical")
    return {name: runs.find(ledger, run.uid) for name, run in made.items()}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["broken", "large", "small"]),
        ("state=finished", ["large", "small"]),
        ("state=failed cause~oom", ["broken"]),
        ("method.rank>8", ["broken", "large"]),
        ("rank>=16 -tag:medical", ["large"]),
        ("best<1", ["large"]),
        ("loss=nan", ["broken"]),
        ("train/loss.best<1 tag:medical", ["broken", "small"]),
        ("age<1h model=tiny l", ["large", "small"]),
        ("source=x", []),
        ("-tag:medical", ["large"]),
    ],
)
def test_a_filter_is_the_one_of_the_screens(
    three: dict[str, Run], text: str, found: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert names(capsys, "--filter", text) == found


@pytest.mark.parametrize(
    ("options", "order"),
    [
        ((), ["broken", "large", "small"]),
        (("--reverse",), ["small", "large", "broken"]),
        (("--sort", "created", "--limit", "1"), ["broken"]),
        (("--sort", "age"), ["broken", "large", "small"]),
        (("--sort", "best"), ["large", "broken", "small"]),
        (("--sort", "loss"), ["large", "small", "broken"]),  # what has none, or NaN, comes last
        (("--sort", "loss", "--reverse"), ["small", "large", "broken"]),
        (("--sort", "validation/accuracy"), ["large", "broken", "small"]),  # where more is better, more comes first
        (("--sort", "method.rank", "--limit", "2"), ["small", "broken"]),
        (("--sort", "name"), ["broken", "large", "small"]),
    ],
)
def test_orders(
    three: dict[str, Run], options: tuple[str, ...], order: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert names(capsys, *options) == order


def test_a_typo_is_pointed_at(three: dict[str, Run], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs", "list", "--filter", "small staet=finished"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    lines = told.err.splitlines()
    assert lines[0] == "The filter is not understood: there is no field staet - did you mean state?"
    assert lines[1:3] == ["small staet=finished", "      ^^^^^"]
    assert cli.main(["runs", "list", "--sort", "bets"]) == 2
    assert "did you mean best?" in capsys.readouterr().err
    assert cli.main(["runs", "list", "--columns", "name,rnak"]) == 2
    assert "did you mean rank?" in capsys.readouterr().err
    for wrong in ("many", "0", "-1", "²"):
        with pytest.raises(SystemExit):
            cli.main(["runs", "list", f"--limit={wrong}"])


def test_columns_of_ones_choice(three: dict[str, Run], capsys: pytest.CaptureFixture[str]) -> None:
    table = said(capsys, "runs", "list", "--columns", "name,state,RATE,method.rank,tag,val,train/loss.best,uid")
    head, *rows = table.splitlines()
    assert head.split() == ["name", "state", "lr", "method.rank", "tag", "val", "train/loss.best", "uid"]
    assert rows[0].split() == [
        "broken",
        "✗",
        "OOM",
        "at",
        "3",
        "–",
        "16",
        "medical",
        "nan",
        "0.25",
        three["broken"].uid,
    ]
    asked = json.loads(said(capsys, "runs", "list", "--columns", "name,method.rank", "--json"))
    assert [run["columns"] for run in asked][:2] == [
        {"name": "broken", "method.rank": 16},
        {"name": "large", "method.rank": 64},
    ]


def test_archived_runs_are_listed_only_when_asked_for(
    three: dict[str, Run], ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    labels.archive(ledger, [three["small"]])
    assert names(capsys) == ["broken", "large"]
    assert names(capsys, "--all") == ["broken", "large", "small"]
    assert names(capsys, "--filter", "archived=yes") == ["small"]
    labels.archive(ledger, three.values())
    assert cli.main(["runs", "list"]) == 0
    assert "3 archived: --all" in capsys.readouterr().err


def test_nothing_that_passes_is_no_mistake(three: dict[str, Run], capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "runs", "list", "--filter", "nothing-like-it") == ""
    assert names(capsys, "--filter", "nothing-like-it") == []


def test_before_the_first_run_there_is_nothing_to_list(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert names(capsys, "--filter", "state=finished") == []
