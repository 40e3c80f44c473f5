"""The frame of the command line: exit codes, where words and figures go, and how it fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine import places
from engine.errors import Problem
from workbench import cli
from workbench.cli import output
from workbench.cli.runs import listing


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("workbench 0.")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert all(f"    {name}" in told for name in cli.COMMANDS)


def test_unknown_command_is_two(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["trane"])
    assert ended.value.code == 2
    assert "invalid choice: 'trane'" in capsys.readouterr().err


def test_a_problem_is_three_lines_on_stderr_and_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs", "show", "nothing"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 3
    assert "There is no ledger" in told.err


@pytest.mark.parametrize("words", [["--ledger", "FILE", "runs", "list"], ["runs", "list", "--ledger", "FILE"]])
def test_ledger_may_stand_before_or_behind_the_command(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = str(tmp_path / "other.db")
    assert cli.main([named if word == "FILE" else word for word in words]) == 2
    assert named in capsys.readouterr().err
    assert not Path(named).exists()


def test_what_words_quote_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.words("a\x1b[2Jb\nc")
    assert capsys.readouterr().err == "a·[2Jb\nc\n"
    assert cli.main(["runs", "show", "x\x1b]0;title\x07", "--ledger", "no\x1bne.db"]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_streams_that_are_closed_are_no_bug(home: Path) -> None:
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        command = f"{sys.executable} -m workbench runs list {closed}"
        ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        assert (ended.returncode, "bug" in ended.stderr) == (0, False), ended
    assert not (home / "errors.log").exists()


def test_a_bug_is_one_line_and_a_log(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(_: object) -> int:
        raise ZeroDivisionError("a secret mistake")

    monkeypatch.setattr(listing, "list_runs", broken)
    assert cli.main(["runs"]) == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert "ZeroDivisionError" in told
    log = places.home() / "errors.log"
    assert str(log) in told
    assert "in broken" in log.read_text()
    monkeypatch.setenv("WORKBENCH_DEBUG", "1")
    assert cli.main(["runs"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (KeyboardInterrupt(), 130, ""),
        (Problem("What", "Why.", "Do."), 2, "What\nWhy.\nDo.\n"),
        (OSError(28, "No space left on device", "/big/file"), 2, "The disk is full: /big/file"),
        (PermissionError(13, "Permission denied", "/root/x"), 2, "/root/x cannot be used"),
    ],
)
def test_how_a_command_ends(
    raised: BaseException, code: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ends(_: object) -> int:
        raise raised

    monkeypatch.setattr(listing, "list_runs", ends)
    assert cli.main(["runs"]) == code
    assert capsys.readouterr().err.startswith(told)


def test_a_closed_pipe_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)  # as `| head` that has gone
    command = [sys.executable, "-m", "workbench", "runs", "list", "--json"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_sigint_in_a_real_process_is_130(tmp_path: Path) -> None:
    code = "import sys, time, workbench.cli as cli; cli._run = lambda _: (print('here', flush=True), time.sleep(60)); sys.exit(cli.main([]))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "here\n"
        os.kill(child.pid, signal.SIGINT)
        _, told = child.communicate(timeout=30)
    assert (child.returncode, told) == (130, "")


def test_table_aligns_figures_and_disarms_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("name", "step", "loss"), [("a\x1b[31m", 7, 0.5), ("语音", 1200, None)])
    assert capsys.readouterr().out.splitlines() == ["name    step  loss", "a·[31m     7   0.5", "语音    1200     –"]


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"loss": float("nan"), "path": Path("/x")})
    assert capsys.readouterr().out == '{\n  "loss": null,\n  "path": "/x"\n}\n'


def test_the_application_without_a_terminal_says_so(home: Path) -> None:
    command = [sys.executable, "-m", "workbench"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs a terminal" in done.stderr
    assert not home.exists()
