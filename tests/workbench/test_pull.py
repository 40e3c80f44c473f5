"""`workbench pull`: the far machine's script and transfer are real; ssh is a shell on this machine, and a real server where one is installed."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import folders
from engine.errors import Problem
from engine.ledger import Ledger, jobs, metrics, runs
from engine.ledger.runs import Run
from engine.ledger.states import State
from engine.pulling import far
from engine.pulling.far import Box
from workbench import cli

SSH = f"""#!/bin/sh
while [ "$1" != "--" ]; do
    [ "$1" = "-O" ] && exit 0
    shift
done
[ "$2" = "unreachable" ] && echo "ssh: connect to host unreachable port 22: No route to host" >&2 && exit 255
[ "$2" = "bare" ] && echo "sh: 1: exec: python3: not found" >&2 && exit 127
[ "$2" = "greeting" ] && echo "Welcome to greeting!" && echo '{{"load": 0.1}}'
export PATH="{Path(sys.executable).parent}:/usr/bin:/bin" HOME="$BOX" XDG_DATA_HOME= WORKBENCH_HOME=
[ -d "$BOX.away" ] && mv "$BOX.away" "$BOX" && away=yes
if [ "$2" = "breaking" ]; then
    sh -c "$3" | head -c 20000
    false
else
    sh -c "$3"
fi
status=$?
[ "$away" ] && mv "$BOX" "$BOX.away"
[ "$2" = "breaking" ] && exit 255
exit $status
"""


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of the other machine, which the ssh on PATH leads to."""
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(SSH)
    program.chmod(0o755)
    far = tmp_path / "box"
    far.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("BOX", str(far))
    return far


def write_weights(folder: Path) -> None:
    (folder / "adapter.safetensors").write_bytes(b"weights" * 10_000)


def train(home: Path, name: str = "speech") -> Run:
    """A run with a result, as the other machine has it."""
    with Ledger.open(home / "ledger.db") as ledger:
        run = runs.create(ledger, name=name, runs_folder=home / "runs", profile="rank = 8", settings={})
        job = jobs.create(ledger, "train", run=run.id, argument={}, log=run.folder / "log.txt")
        run.folder.mkdir(parents=True)
        (run.folder / "log.txt").write_text("step 1\n")
        with metrics.Writer(ledger, run.id) as log:
            for step in range(100):
                log.log(step, {"train/loss": 1.0 / (step + 1)})
        result = run.folder / "adapter" / "best"
        folders.publish(result, write_weights)
        runs.set_result(ledger, run, kind="adapter", path="adapter/best")
        runs.record(ledger, run, fingerprints={"result": folders.published_fingerprint(result)})
        jobs.set_state(ledger, job, State.FINISHED)
        with ledger.transaction() as connection:
            connection.execute("UPDATE job SET host = 'box', boot_id = 'b'")
        return runs.find(ledger, run.uid)


def away(box: Path) -> None:
    """Its files are not on this machine: they are there only while somebody is logged in to it."""
    box.rename(box.with_name(f"{box.name}.away"))


def default_home(box: Path) -> Path:
    return box / ".local" / "share" / "workbench"


def pull(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, object], str]:
    code = cli.main(["pull", *arguments, "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else {}, said.err


def test_runs_come_with_their_results_and_pulling_again_brings_nothing(
    box: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = train(default_home(box))
    away(box)
    code, said, _ = pull(capsys, "me@box", "--results", "speech")
    assert (code, said["added"], said["updated"]) == (0, [there.uid], [])
    with Ledger.open(home / "ledger.db") as ledger:
        here = runs.find(ledger, "speech")
        assert metrics.curve(ledger, here.id, "train/loss").values.tolist() == [1 / (step + 1) for step in range(100)]
    assert here.folder == home / "runs" / there.uid
    assert here.result
    assert (here.result / "adapter.safetensors").read_bytes() == b"weights" * 10_000
    assert folders.damage(here.result) == ""
    assert (here.folder / "log.txt").read_text() == "step 1\n"
    assert [path.name for path in here.folder.iterdir() if path.name.startswith(".")] == []
    code, said, _ = pull(capsys, "me@box", "--results", "speech")
    assert (code, said["added"], said["updated"], said["kept"]) == (0, [], [], [there.uid])
    assert isinstance(said["results"], list)
    assert [(each["path"], each["new"]) for each in said["results"]] == [(str(here.result), False)]
    assert [path.name for path in home.iterdir() if path.name.startswith(".pulling")] == []


def test_a_ledger_that_is_being_written_to_comes_as_it_is_at_that_moment(
    box: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = train(default_home(box))
    with Ledger.open(default_home(box) / "ledger.db") as far, metrics.Writer(far, there.id) as log:
        for step in range(100, 200):
            log.log(step, {"train/loss": 1.0})
        assert log.flush()
        assert (default_home(box) / "ledger.db-wal").stat().st_size > 0
        assert pull(capsys, "box")[0] == 0
    with Ledger.open(home / "ledger.db") as ledger:
        assert len(metrics.curve(ledger, runs.find(ledger, "speech").id, "train/loss").steps) == 200
    assert sorted(path.name for path in default_home(box).iterdir()) == ["ledger.db", "ledger.db.lock", "runs"]


@pytest.mark.parametrize("place", ["elsewhere/home", "elsewhere/home/ledger.db"])
def test_the_other_home_may_be_named(place: str, box: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = train(box / "elsewhere" / "home")
    assert pull(capsys, f"greeting:{box / place}")[1]["added"] == [there.uid]


@pytest.mark.parametrize(
    ("target", "what", "do"),
    [
        ("unreachable", "No route to host", "ssh unreachable true"),
        ("bare", "no python3", "workbench ledger merge"),
        ("box", "There is no ledger at", "WORKBENCH_HOME"),
        ("box:/nowhere/at all", "no ledger at /nowhere/at all", "WORKBENCH_HOME"),
        ("-oProxyCommand=touch", "names no machine", ""),
        (":/home", "names no machine", ""),
    ],
)
def test_what_keeps_a_ledger_from_coming_is_said(
    target: str, what: str, do: str, box: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["pull", "--", target]) == 2
    said = capsys.readouterr().err
    assert what in said
    assert do in said
    assert not list(home.glob(".pulling-*"))


def test_a_ledger_that_cannot_be_merged_is_called_the_other_machine_s(
    box: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(default_home(box))
    path = default_home(box) / "ledger.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert cli.main(["pull", "box"]) == 2
    assert capsys.readouterr().err.startswith("The ledger of box was written by a newer Workbench\n")
    path.write_text("step,loss\n" * 1000)
    assert cli.main(["pull", "box"]) == 2
    assert "The ledger there is damaged or something else" in capsys.readouterr().err
    with Ledger.open(home / "ledger.db") as ledger:
        assert runs.listed(ledger) == []


@pytest.mark.parametrize("line", ['{"file": "ledger.db", "bytes": "x"}', '{"file": "a", "bytes": -1}', "[" * 60_000])
def test_a_line_that_is_none_of_the_protocol_is_noise(line: str) -> None:
    assert far._told(line.encode()) is None


def test_a_transfer_that_breaks_off_changes_nothing(box: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(default_home(box))
    assert cli.main(["pull", "breaking"]) == 2
    assert "broke off" in capsys.readouterr().err
    with Ledger.open(home / "ledger.db") as ledger:
        assert runs.listed(ledger) == []
    assert not list(home.glob(".pulling-*"))


def test_a_result_that_is_not_what_the_ledger_tells_of_does_not_replace_what_is_here(
    box: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = train(default_home(box))
    away(box)
    assert pull(capsys, "box", "--results", "speech")[0] == 0
    weights = Path(f"{box}.away", *(there.folder / "adapter/best/adapter.safetensors").relative_to(box).parts)
    weights.write_bytes(b"something else")
    here = home / "runs" / there.uid / "adapter" / "best"
    (here / "adapter.safetensors").write_bytes(b"damaged here too")
    code, said, words = pull(capsys, "box", "--results", "speech", "nosuchrun")
    assert code == 1
    assert "not the result that its ledger tells of" in words
    assert "There is no run nosuchrun" in words
    assert isinstance(said["problems"], list)
    assert len(said["problems"]) == 2
    assert (here / "adapter.safetensors").read_bytes() == b"damaged here too"
    weights.write_bytes(b"weights" * 10_000)
    assert pull(capsys, "box", "--results", "speech")[0] == 0
    assert (here / "adapter.safetensors").read_bytes() == b"weights" * 10_000


def test_a_box_cannot_say_where_its_result_goes(box: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = train(default_home(box))
    mine = home / "mine"
    mine.mkdir(parents=True)
    (mine / "notes").write_text("precious")
    with Ledger.open(default_home(box) / "ledger.db") as ledger, ledger.transaction() as connection:
        connection.execute("UPDATE run SET result_path = ?", (str(mine),))
    code, _, words = pull(capsys, "box", "--results", there.uid)
    assert code == 1
    assert "no place here" in words
    assert [path.name for path in mine.iterdir()] == ["notes"]


def test_machines_are_named_as_scp_names_them() -> None:
    assert Box.parse("me@box") == Box("me@box", "")
    assert Box.parse("me@box:~/wb home") == Box("me@box", "~/wb home")
    assert Box.parse("me@[fe80::1]:/data") == Box("me@fe80::1", "/data")
    with pytest.raises(Problem):
        Box.parse("two words")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A real ssh server for this user, which the host `real` leads to."""
    daemon = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if daemon is None or shutil.which("ssh") is None:
        pytest.skip("no ssh server is installed")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    (tmp_path / "user.pub").rename(tmp_path / "authorized")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    options = [
        f"HostKey={tmp_path / 'host'}",
        f"AuthorizedKeysFile={tmp_path / 'authorized'}",
        "StrictModes=no",
        "UsePAM=no",
    ]
    options += ["ListenAddress=127.0.0.1", f"PidFile={tmp_path / 'pid'}", "PermitRootLogin=yes"]
    process = subprocess.Popen(
        [
            daemon,
            "-D",
            "-e",
            "-f",
            "/dev/null",
            "-p",
            str(port),
            *(word for option in options for word in ("-o", option)),
        ],
        stderr=subprocess.PIPE,
    )
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    known = f"-o StrictHostKeyChecking=no -o UserKnownHostsFile={tmp_path / 'known'} -o LogLevel=ERROR"
    program.write_text(
        f"#!/bin/sh\nexec {shutil.which('ssh')} -F /dev/null -i {tmp_path / 'user'} -p {port} {known}"
        f' -o HostName=127.0.0.1 -o User={getpass.getuser()} "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    try:
        while process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        else:
            pytest.skip("the ssh server does not start for this user")
        yield
    finally:
        process.terminate()
        process.communicate()


def test_over_a_real_connection(server: None, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = train(tmp_path / "far home")
    code, said, words = pull(capsys, f"real:{tmp_path / 'far home'}", "--results", "speech")
    assert (code, said.get("added"), words) == (0, [there.uid], "")
    with Ledger.open(home / "ledger.db") as ledger:
        here = runs.find(ledger, "speech")
    assert here.result
    assert folders.damage(here.result) == ""
