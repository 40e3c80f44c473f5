"""What people say of runs on the command line, and what they delete and get back."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from engine.ledger import Ledger, labels, runs
from tests.workbench.test_runs import make_run, said
from workbench import cli


def test_tags_are_given_taken_and_counted(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = make_run(ledger, "a"), make_run(ledger, "b", rank=64)
    told = json.loads(said(capsys, "runs", "tag", "medical", "a", "b", "a", "--json"))
    assert [(run["name"], run["tags"]) for run in told] == [("a", ["medical"]), ("b", ["medical"])]
    said(capsys, "runs", "tag", "wide", "--filter", "rank>16")
    assert json.loads(said(capsys, "runs", "tag", "--json")) == [
        {"tag": "medical", "runs": 2},
        {"tag": "wide", "runs": 1},
    ]
    said(capsys, "runs", "untag", "medical", "--filter", "tag:wide")
    assert (labels.tags(ledger, a), labels.tags(ledger, b)) == (("medical",), ("wide",))
    assert "wide" in said(capsys, "runs", "show", "b")
    assert cli.main(["runs", "tag", "two words", "a"]) == 2
    assert cli.main(["runs", "tag", "medical"]) == 2
    assert cli.main(["runs", "tag", "--filter", "rank>16"]) == 2
    assert labels.tags(ledger, a) == ("medical",)


def test_what_was_done_is_said(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(10):
        make_run(ledger, f"run{number}")
    for words, told in (
        (
            ["tag", "wide", "--filter", "run"],
            "Tagged wide: run9, run8, run7, run6, run5, run4, run3, run2 and 2 more\n",
        ),
        (["untag", "wide", "run1"], "No longer tagged wide: run1\n"),
        (["untag", "wde", "run2"], "None of them has the tag wde - did you mean wide?\n"),
        (["rename", "run1", "first"], "run1 is called: first\n"),
        (["archive", "run3"], "Archived: run3\n"),
        (["unarchive", "run3"], "Out of the archive: run3\n"),
        (["note", "run3"], "run3 has no note. Write one: workbench runs note run3 TEXT\n"),
    ):
        assert cli.main(["runs", *words]) == 0
        assert capsys.readouterr() == ("", told)


def test_a_run_gets_another_name(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(ledger, "a")
    make_run(ledger, "b")
    assert cli.main(["runs", "rename", "a", "b"]) == 2
    assert "b is taken" in capsys.readouterr().err
    said(capsys, "runs", "rename", "a", "first")
    assert runs.find(ledger, run.uid).name == "first"


def test_a_baseline_is_set_shown_and_taken_away(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(ledger, "a")
    run = make_run(ledger, "b")
    assert cli.main(["runs", "baseline", "b"]) == 2  # it is not known what it may be compared with
    with ledger.transaction() as connection:
        connection.execute("UPDATE run SET comparable = 'same rows'")
    capsys.readouterr()
    said(capsys, "runs", "baseline", "a")
    said(capsys, "runs", "baseline", "b")
    assert [each["name"] for each in json.loads(said(capsys, "runs", "baseline", "--json"))] == ["b"]
    assert run.uid in said(capsys, "runs", "baseline")
    assert cli.main(["runs", "baseline", "a"]) == 0
    assert capsys.readouterr().err == "Baseline, no longer b: a\n"
    said(capsys, "runs", "baseline", "b")
    said(capsys, "runs", "baseline", "b", "--off")
    assert said(capsys, "runs", "baseline") == ""


def test_archived_and_back(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(ledger, "a")
    make_run(ledger, "b")
    said(capsys, "runs", "archive", "a")
    assert [run["name"] for run in json.loads(said(capsys, "runs", "list", "--json"))] == ["b"]
    said(capsys, "runs", "unarchive", "--filter", "archived=yes")
    assert len(json.loads(said(capsys, "runs", "list", "--json"))) == 2


def test_a_note_comes_from_a_file_or_an_editor(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(ledger, "a")
    (tmp_path / "note.md").write_text("# What I saw\n\n- rank too low\n")
    said(capsys, "runs", "note", "a", "--file", str(tmp_path / "note.md"))
    assert said(capsys, "runs", "note", "a") == "# What I saw\n\n- rank too low\n"
    assert "rank too low" in said(capsys, "runs", "show", "a").splitlines()[-1 - 6 :].__str__()
    for wrong in (["--file", str(tmp_path)], ["--file", str(tmp_path / "none")], ["text", "--edit"], ["--edit"]):
        assert cli.main(["runs", "note", "a", *wrong]) == 2
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    assert cli.main(["runs", "note", "a", "--file", str(tmp_path / "bytes")]) == 2
    capsys.readouterr()

    script = tmp_path / "editor.py"
    script.write_text("import sys; path = sys.argv[1]; text = open(path).read(); open(path, 'w').write(text + 'more')")
    monkeypatch.setenv("VISUAL", f"{sys.executable} {script}")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert cli.main(["runs", "note", "a", "--edit"]) == 0
    assert runs.find(ledger, "a").note == "# What I saw\n\n- rank too lowmore"
    monkeypatch.setenv("VISUAL", "false")
    assert cli.main(["runs", "note", "a", "--edit"]) == 2
    assert runs.find(ledger, "a").note.endswith("more")


def test_deleted_runs_come_back_from_the_bin(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(ledger, "a")
    assert json.loads(said(capsys, "runs", "delete", "a", "--yes", "--json")) == [{"uid": run.uid, "name": "a"}]
    assert not run.folder.exists()
    (binned,) = json.loads(said(capsys, "runs", "bin", "--json"))
    assert binned["name"] == "a" and binned["bytes"] >= 2048
    assert "a  " in said(capsys, "runs", "bin")
    assert cli.main(["runs", "show", "a"]) == 2
    assert "workbench runs restore a" in capsys.readouterr().err
    said(capsys, "runs", "restore", "a")
    assert (run.folder / "log.txt").exists() and runs.find(ledger, "a").uid == run.uid
    assert cli.main(["runs", "restore", "a"]) == 2


def test_the_bin_is_emptied_for_good(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        make_run(ledger, name)
    said(capsys, "runs", "delete", "--filter", "name=a,b,c", "--yes")
    assert cli.main(["runs", "purge"]) == 2  # nobody to ask
    capsys.readouterr()
    assert json.loads(said(capsys, "runs", "purge", "--older-than", "1h", "--yes", "--json")) == []
    assert [each["name"] for each in json.loads(said(capsys, "runs", "purge", "b", "--yes", "--json"))] == ["b"]
    assert cli.main(["runs", "purge", "a", "--older-than", "1h"]) == 2
    terminal, answers = os.openpty()
    os.write(terminal, b"y\n")
    with os.fdopen(answers) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert cli.main(["runs", "purge"]) == 0
    os.close(terminal)
    assert "for good? [y/N]" in capsys.readouterr().err
    assert ledger.value("SELECT count(*) FROM run") == 0
    with pytest.raises(SystemExit):
        cli.main(["runs", "purge", "--older-than", "a while"])


def test_a_filter_with_a_mistake_deletes_nothing(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(ledger, "a")
    assert cli.main(["runs", "delete", "--filter", "state=finished los<1", "--yes"]) == 2
    assert "^^^" in capsys.readouterr().err
    assert cli.main(["runs", "delete", "--yes"]) == 2
    assert len(runs.listed(ledger)) == 1
