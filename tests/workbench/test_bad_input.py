"""Bad input from the command line: what happened, where, what to do; exit code 2; nothing lost and nothing half made."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from engine.ledger import Ledger, jobs, runs
from engine.ledger.states import ENDED, State
from tests.tiny import write_rows
from workbench import cli

COLUMNS = 'columns = { instruction = "instruction", input = "input", response = "output" }'
PROFILE = f"""\
[model]
base = "base"
dtype = "float32"

[[data]]
source = "rows.jsonl"
{COLUMNS}

[training]
epochs = 2
effective_batch = 4
learning_rate = 1e-3

[hardware]
device = "cpu"
"""


@pytest.fixture
def folder(tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a profile, its data and its base model."""
    (tmp_path / "base").symlink_to(tiny_base)
    write_rows(tmp_path / "rows.jsonl", 24)
    (tmp_path / "profile.toml").write_text(PROFILE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command says that could not run: no traceback, nothing on stdout, no run left behind."""
    try:
        code = cli.main(list(words))
    except SystemExit as ended:
        code = int(str(ended.code))
    told = capsys.readouterr()
    assert (code, told.out) == (2, ""), told
    assert "Traceback" not in told.err
    assert "bug" not in told.err
    assert cli.main(["runs", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    return told.err


# The profile


def test_a_profile_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(capsys, "train", "speech-analysys")
    assert "There is no profile speech-analysys - did you mean speech-analysis?" in told


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("epochs = 2", "epocs = 2", "profile.toml:10: training.epocs: unknown key - did you mean epochs?"),
        ("epochs = 2", "epochs = -1", "profile.toml:10: training.epochs: found -1; should be a number > 0 and <= 1000"),
        ("epochs = 2", 'epochs = "many"', 'profile.toml:10: training.epochs: found "many"; should be a number'),
        ("epochs = 2", "epochs = ", "profile.toml:10: this is not TOML"),
    ],
)
def test_a_mistake_in_the_profile_is_named_with_its_line(
    old: str, new: str, told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "profile.toml").write_text(PROFILE.replace(old, new))
    assert told in refused(capsys, "train", "profile.toml")
    assert told in refused(capsys, "fit", "profile.toml")


def test_a_setting_out_of_range(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "training.epochs: found -1" in refused(capsys, "train", "profile.toml", "--set", "training.epochs=-1")
    assert "method.rnk: unknown key - did you mean rank?" in refused(
        capsys, "train", "profile.toml", "--set", "method.rnk=4"
    )
    assert "key=value" in refused(capsys, "train", "profile.toml", "--set", "epochs")


# The data


@pytest.mark.parametrize("command", ["train", "data"])
def test_data_that_is_not_there(command: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "rows.jsonl").unlink()
    told = refused(capsys, command, "profile.toml" if command == "train" else "rows.jsonl")
    assert "rows.jsonl" in told


@pytest.mark.parametrize("text", ["", "\n\n"])
@pytest.mark.parametrize("command", ["train", "data"])
def test_data_that_is_empty(command: str, text: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "rows.jsonl").write_text(text)
    told = refused(capsys, command, "profile.toml" if command == "train" else "rows.jsonl")
    assert "rows.jsonl" in told
    assert "empty" in told or "no rows" in told


def test_broken_json_on_line_seven_is_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (folder / "rows.jsonl").read_text().splitlines()
    lines[6] = lines[6][:20]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    before = (folder / "rows.jsonl").read_bytes()
    assert cli.main(["data", "rows.jsonl", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    (error,) = [finding for finding in report["findings"] if finding["severity"] == "error"]
    assert (error["count"], error["rows"]) == (1, [7])
    assert cli.main(["data", "rows.jsonl"]) == 1
    assert "rows.jsonl:7: this line is not JSON" in capsys.readouterr().out
    assert (folder / "rows.jsonl").read_bytes() == before
    assert "rows.jsonl:7: this line is not JSON" in refused(capsys, "train", "profile.toml")


def test_a_column_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "profile.toml").write_text(PROFILE.replace('response = "output"', 'response = "outptu"'))
    told = refused(capsys, "train", "profile.toml")
    assert "outptu" in told
    assert "output" in told.replace("outptu", "")


# The model


class _Hub(BaseHTTPRequestHandler):
    """A model hub that refuses: OWNER/gated with 403, OWNER/private with 401, all others with 404."""

    def do_GET(self) -> None:
        status, code = (403, "GatedRepo") if "gated" in self.path else (401, "GatedRepo")
        if "gated" not in self.path and "private" not in self.path:
            status, code = 404, "RepoNotFound"
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", "refused")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 - the base class wants the name

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Keep the test's output clean."""


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    """The address of a hub on this machine that refuses everything."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def train_from_hub(base: str, endpoint: str) -> subprocess.CompletedProcess[str]:
    """`workbench train` of a model that the hub at `endpoint` is asked for, in a process that may ask it."""
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    return subprocess.run(
        [sys.executable, "-m", "workbench", "train", "profile.toml", "--set", f"model.base={base}"],
        env={**environment, "HF_ENDPOINT": endpoint, "HF_TOKEN": "hf_secretsecretsecret", "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("base", "told"),
    [
        ("owner/gated", "owner/gated is gated"),
        ("owner/private", "owner/private is gated"),
        ("owner/misspelt", "There is no model owner/misspelt"),
    ],
)
def test_a_model_that_the_hub_refuses(base: str, told: str, hub: str, folder: Path, home: Path) -> None:
    done = train_from_hub(base, hub)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "hf auth login" in done.stderr
    assert "hf_secret" not in done.stderr
    assert runs_in(home) == []


def test_no_network(folder: Path, home: Path) -> None:
    done = train_from_hub("owner/model", "http://127.0.0.1:9")  # nobody listens on the discard port
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot be reached" in done.stderr
    assert "local folder" in done.stderr
    assert runs_in(home) == []


def test_the_hub_switched_off(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(capsys, "train", "profile.toml", "--set", "model.base=owner/model")
    assert "HF_HUB_OFFLINE" in told


def test_missing_data_are_told_before_the_hub_is_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(
        capsys, "train", "profile.toml", "--set", "model.base=Some/Model", "--set", "data.0.source=recording.csv"
    )
    assert told.startswith(f"There is no file {folder / 'recording.csv'}")


def test_a_folder_that_holds_no_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "empty").mkdir()
    assert "config.json" in refused(capsys, "train", "profile.toml", "--set", "model.base=./empty")
    assert "./gone" in refused(capsys, "train", "profile.toml", "--set", "model.base=./gone").replace(str(folder), ".")


def runs_in(home: Path) -> list[runs.Run]:
    """The runs in the test's ledger."""
    path = home / "ledger.db"
    return runs.listed(Ledger.open(path)) if path.exists() else []


# The GPU


def test_a_gpu_that_torch_cannot_use(folder: Path, home: Path, driver: Path) -> None:
    text = PROFILE.replace('device = "cpu"', 'device = "auto"')
    (folder / "profile.toml").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "workbench", "train", "profile.toml", "--follow"],
        env={**os.environ, "LD_LIBRARY_PATH": str(driver)},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 2
    assert "torch cannot use the" in done.stderr
    assert "pip install" in done.stderr
    (run,) = runs_in(home)
    assert (run.state, run.cause, run.step) == (State.FAILED, "gpu", 0)  # never silently on the CPU


# The ledger


def test_a_ledger_that_is_something_else(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "notes.db").write_text("my notes, not a database\n" * 40)
    assert cli.main(["runs", "list", "--ledger", "notes.db"]) == 2
    assert "cannot be read as a ledger" in capsys.readouterr().err
    assert cli.main(["train", "profile.toml", "--ledger", "notes.db"]) == 2
    assert (folder / "notes.db").read_text() == "my notes, not a database\n" * 40


def test_settings_that_are_broken(folder: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.mkdir(exist_ok=True)
    (home / "settings.toml").write_text('runs_foldr = "/big"\n')
    assert "settings.toml:1: unknown setting runs_foldr - did you mean runs_folder?" in refused(
        capsys, "train", "profile.toml"
    )


# Processes: what ends the watcher must not end the run


def wait_for(ledger: Ledger, name: str, *states: State) -> runs.Run:
    """The run once it is in one of these states."""
    for _ in range(1200):  # looks are counted, not the time: a machine may stand still
        run = runs.find(ledger, name)
        if run.state in states:
            return run
        time.sleep(0.1)
    raise AssertionError(f"{name} is {run.state} ({run.cause}), not {states}: {(run.folder / 'job.log').read_text()}")


def test_what_ends_the_watcher_leaves_the_run(folder: Path, ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "engine").mkdir()  # a folder of the user's, which must not be taken for ours
    (folder / "engine" / "__init__.py").write_text("raise SystemExit('the wrong engine')")
    (folder / "engine" / "__main__.py").write_text("raise SystemExit('the wrong engine')")
    words = ["--name", "watched", "--set", "training.max_steps=5000", "--set", "training.save_every=5000"]
    assert cli.main(["train", "profile.toml", *words]) == 0
    try:
        wait_for(ledger, "watched", State.RUNNING)
        for sent in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            end_watcher(sent, folder)
            assert runs.find(ledger, "watched").state == State.RUNNING
    finally:
        assert cli.main(["runs", "stop", "watched"]) == 0
    stopped = wait_for(ledger, "watched", *ENDED)
    assert stopped.state == State.STOPPED
    assert len(jobs.of_run(ledger, stopped.id)) == 1
    assert cli.main(["runs", "follow", "watched"]) == 1
    assert "workbench runs resume watched" in capsys.readouterr().err


def end_watcher(sent: signal.Signals, folder: Path) -> None:
    """Follow the run from a session of its own, until it has told something; then end that session's processes."""
    command = [sys.executable, "-P", "-m", "workbench", "runs", "follow", "watched"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True) as watcher:
        assert watcher.stderr is not None
        assert watcher.stderr.readline()
        os.killpg(watcher.pid, sent)
        told = watcher.stderr.read()
    assert watcher.returncode == (130 if sent == signal.SIGINT else -sent)
    assert ("Detached: watched goes on." in told) is (sent == signal.SIGINT)
