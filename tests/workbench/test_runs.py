"""`workbench runs`: the ledger as tables and JSON, orders, and what destroys asks first."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from engine.fit import recorded
from engine.ledger import Ledger, artifacts, checkpoints, events, jobs, orders, queue, runs
from engine.ledger.states import State
from engine.ledger.writer import Writer
from workbench import cli

PROFILE = '[model]\nbase = "/models/tiny"\n\n[method]\nname = "lora"\nrank = 16\n'
SHOWN = {
    "uid",
    "name",
    "state",
    "step",
    "steps",
    "metrics",
    "profile",
    "environment",
    "fingerprints",
    "jobs",
    "checkpoints",
    "memory",
    "result",
}


def make_run(ledger: Ledger, name: str, state: State = State.FINISHED, *, rank: int = 16) -> runs.Run:
    """A run with a folder, a job in `state` that is this very process, and a few metrics."""
    settings = {"model.base": "/models/tiny", "method.name": "lora", "method.rank": rank, "data.0.source": "rows.jsonl"}
    text = PROFILE.replace("16", str(rank))
    run = runs.create(
        ledger, name=name, runs_folder=ledger.path.parent / "runs", profile=text, settings=settings, steps=8
    )
    run.folder.mkdir(parents=True)
    (run.folder / "log.txt").write_text("x" * 2048)
    job = jobs.create(ledger, "train", run=run.id, argument={}, log=run.folder / "job.log")
    jobs.sign_in(ledger, job, pid=os.getpid())
    jobs.set_state(ledger, job, state, cause="OOM at 3" if state == State.FAILED else "")
    with Writer(ledger, run.id) as writer:
        for step in range(1, 9):
            writer.log(step, {"train/loss": 2.0 / step, "validation/loss": 1.0 + abs(step - 4)})
    runs.progress(ledger, run, step=8, steps=8, ends=None)
    return runs.find(ledger, run.uid)


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """Stdout of a command that ends with `code`."""
    assert cli.main(list(words)) == code
    return capsys.readouterr().out


def test_list_has_the_keys_that_stay(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(ledger, "first")
    make_run(ledger, "second", State.FAILED)
    newest, oldest = json.loads(said(capsys, "runs", "list", "--json"))
    assert (newest["name"], newest["state"]) == ("second", "failed")
    assert {key: oldest[key] for key in ("uid", "name", "state", "step", "steps")} == {
        "uid": run.uid,
        "name": "first",
        "state": "finished",
        "step": 8,
        "steps": 8,
    }
    assert oldest["metrics"]["validation/loss"]["last"] == 5.0
    assert oldest["metrics"]["validation/loss"]["best"] == 1.0
    table = said(capsys, "runs")
    assert "✗ OOM at 3" in table
    assert "✓ finished" in table
    assert run.uid in table


def test_a_run_whose_process_is_gone_is_lost(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(ledger, "gone", State.RUNNING)
    with ledger.transaction() as connection:
        connection.execute("UPDATE job SET pid_started = pid_started - 1 WHERE run = ?", (run.id,))
    assert json.loads(said(capsys, "runs", "list", "--json"))[0]["state"] == "lost"
    shown = json.loads(said(capsys, "runs", "show", "gone", "--json"))
    assert (shown["state"], shown["jobs"][0]["state"]) == ("lost", "lost")
    assert cli.main(["runs", "stop", "gone"]) == 2
    assert "workbench runs resume gone" in capsys.readouterr().err


def test_show_has_the_keys_that_stay(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(ledger, "first")
    checkpoints.add(ledger, run.id, step=4, path="checkpoints/step-000004", size=4096, validation=1.0, best=True)
    measured = recorded.Figures("driver", 700.0, 790.0, 812.0, 22.0, {"step": (700.0, 790.0)})
    memory = recorded.kept(measured=measured)
    runs.record(ledger, run, environment={"torch": "2.13.0", **memory}, fingerprints={"data": "d1"})
    runs.set_result(ledger, run, kind="adapter", path="adapter/best")
    runs.set_measured_memory(ledger, run, 812.0)
    shown = json.loads(said(capsys, "runs", "show", run.uid[:6], "--json"))
    assert set(shown) >= SHOWN
    assert shown["profile"]["method"] == {"name": "lora", "rank": 16}
    assert shown["fingerprints"] == {"data": "d1", "base": None, "result": None}
    assert (shown["memory"]["predicted_mib"], shown["memory"]["measured_mib"]) == (None, 812.0)
    assert shown["memory"]["measured"]["phases"] == {"step": [700.0, 790.0]}
    assert shown["result"] == {"kind": "adapter", "path": str(run.folder / "adapter/best")}
    assert shown["jobs"][0]["pid"] == os.getpid()
    assert shown["checkpoints"][0]["path"] == "checkpoints/step-000004"
    assert said(capsys, "runs", "show", "first", "--profile") == PROFILE
    told = json.loads(said(capsys, "runs", "show", "first", "--profile", "--json"))
    assert (told["name"], told["profile"]) == ("first", shown["profile"])
    assert "measured 812 MiB" in said(capsys, "runs", "show", "first")


def test_show_tells_the_story_of_a_run(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(ledger, "prefs")
    lineage = [
        {"name": "text", "objective": "pretrain", "method": "full"},
        {"name": "talk", "objective": "sft", "method": "lora"},
    ]
    work = {"supervised": 4096, "tokens": 8192, "flops": 1.5e15}
    runs.record(ledger, run, environment={"lineage": lineage, "work": work})
    with Writer(ledger, run.id) as writer:
        writer.log(8, {"train/mfu": 0.38, "energy/joules": 7.2e5})
    events.add(ledger, "inventory", "Trains 4.1 M parameters", run=run.id)
    events.add(ledger, "memory", "2 rows became 1", run=run.id, step=5, level="warning", detail={"rows_at_once": 1})
    orders.acknowledge(
        ledger, orders.Order(orders.give(ledger, run.id, "rate", 0.5), "rate", 0.5, 0, None, ""), step=3, answer="taken"
    )
    queue.set_places(ledger, jobs.of_run(ledger, run.id)[0], ("GPU-7",))
    whole = json.loads(said(capsys, "runs", "show", "prefs", "--json"))
    assert whole["backoffs"] == [{"step": 5, "rows_at_once": 1}]
    assert [(order["verb"], order["value"], order["step"]) for order in whole["orders"]] == [("rate", 0.5, 3)]
    assert whole["jobs"][0]["gpus"] == ["GPU-7"] and whole["environment"]["lineage"] == lineage
    runs.set_conditions(ledger, run, gpu="2x H200", comparable="c" * 64)
    artifacts.add(ledger, run, "adapter", run.folder / "adapter" / "best", size=9, fingerprint="f" * 64)
    runs.create(
        ledger,
        name="after",
        runs_folder=Path("/runs"),
        profile="",
        settings={"training.objective": "dpo", "method.name": "ia3"},
        parent=run.uid,
    )
    whole = json.loads(said(capsys, "runs", "show", "prefs", "--json"))
    assert (whole["gpu"], whole["comparable"]) == ("2x H200", "c" * 64)
    assert [(left["kind"], left["path"], left["bytes"]) for left in whole["artifacts"]] == [
        ("adapter", "adapter/best", 9)
    ]
    assert [(one["relation"], one["name"]) for one in whole["family"]][-2:] == [("run", "prefs"), ("child", "after")]
    told = said(capsys, "runs", "show", "prefs")
    for words in (
        "after (dpo, ia3)",
        "2x H200 · GPU-7",
        "text (pretrain, full), then talk (sft, lora)",
        "Trains 4.1 M parameters",
        "2 rows became 1",
        "rate 0.5 at 3",
        "GPU-7",
        "4,096 supervised of 8,192 tokens, 1.5e+15 FLOPs, MFU 38 %, 0.2 kWh",
    ):
        assert words in told


def test_diff_shows_only_what_differs(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(ledger, "a")
    make_run(ledger, "b", rank=64)
    assert json.loads(said(capsys, "runs", "diff", "a", "b", "--json"))["differences"] == [
        {"key": "method.rank", "values": [16, 64]}
    ]
    assert said(capsys, "runs", "diff", "a", "a") == ""
    assert cli.main(["runs", "diff", "a"]) == 2


def test_a_wrong_name_is_answered_with_the_nearest(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(ledger, "pubmedqa")
    assert cli.main(["runs", "show", "pubmeqda"]) == 2
    assert "did you mean pubmedqa?" in capsys.readouterr().err


def test_an_order_waits_for_the_answer(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(ledger, "busy", State.RUNNING)

    def obey() -> None:
        while not (waiting := orders.waiting(ledger, run.id)):
            time.sleep(0.02)
        orders.acknowledge(ledger, waiting[0], step=5, answer="rate halved")

    job = threading.Thread(target=obey)
    job.start()
    (told,) = json.loads(said(capsys, "runs", "rate", "busy", "0.5", "--json"))
    job.join()
    assert (told["verb"], told["value"], told["step"], told["answer"]) == ("rate", 0.5, 5, "rate halved")


def test_orders_to_what_has_ended_are_refused(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(ledger, "done")
    assert cli.main(["runs", "pause", "done"]) == 2
    assert "done is finished" in capsys.readouterr().err
    assert orders.waiting(ledger, run.id) == []
    with pytest.raises(SystemExit) as ended:
        cli.main(["runs", "rate", "done", "-1"])
    assert ended.value.code == 2


def test_delete_needs_a_yes_where_nobody_can_be_asked(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(ledger, "old")
    assert cli.main(["runs", "delete", "old"]) == 2
    assert "--yes" in capsys.readouterr().err
    assert run.folder.is_dir()
    assert cli.main(["runs", "delete", "old", "--yes"]) == 0
    assert not run.folder.exists()
    assert runs.listed(ledger) == []


@pytest.mark.parametrize(("typed", "left"), [("y\n", False), ("n\n", True), ("\n", True), ("", True)])
def test_delete_asks_on_a_terminal(typed: str, left: bool, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(ledger, "old")
    terminal, answers = os.openpty()
    os.write(terminal, typed.encode() or b"\x04")
    with os.fdopen(answers) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert cli.main(["runs", "delete", "old"]) == int(left)
    os.close(terminal)
    assert run.folder.is_dir() is left
    assert bool(runs.listed(ledger)) is left


def test_delete_refuses_what_is_at_work_and_then_deletes_nothing(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    idle = make_run(ledger, "idle")
    make_run(ledger, "busy", State.RUNNING)
    evaluated = make_run(ledger, "evaluated")
    job = jobs.create(ledger, "evaluate", run=idle.id, argument={"runs": [idle.uid, evaluated.uid]}, log=Path("x"))
    jobs.sign_in(ledger, job, pid=os.getpid())
    for names in (["idle", "busy"], ["evaluated"]):
        assert cli.main(["runs", "delete", *names, "--yes"]) == 2
    assert len(runs.listed(ledger)) == 3
    assert idle.folder.is_dir()


def test_a_base_model_is_deleted_with_what_goes_on_from_it(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    base, child = make_run(ledger, "base"), make_run(ledger, "child")
    runs.set_result(ledger, base, kind="model", path="model/best")
    with ledger.transaction() as connection:
        connection.execute("UPDATE run SET parent = ? WHERE id = ?", (base.uid, child.id))
    assert cli.main(["runs", "delete", "base", "--yes"]) == 2
    assert "Delete child first" in capsys.readouterr().err
    assert cli.main(["runs", "delete", "base", "child", "--yes"]) == 0
    assert runs.listed(ledger) == []


def test_delete_removes_only_a_folder_of_its_own(ledger: Ledger, tmp_path: Path) -> None:
    run = make_run(ledger, "moved")
    assert run.folder.is_dir()
    with ledger.transaction() as connection:
        connection.execute("UPDATE run SET folder = ? WHERE id = ?", (str(tmp_path), run.id))
    (tmp_path / "thesis.tex").write_text("mine")
    assert cli.main(["runs", "delete", "moved", "--yes"]) == 0
    assert (tmp_path / "thesis.tex").exists()


def test_note_is_kept_and_shown(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(ledger, "first")
    assert said(capsys, "runs", "note", "first", "rank too low") == ""
    assert said(capsys, "runs", "note", "first") == "rank too low\n"


def test_resume_needs_a_run_or_all(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(ledger, "first")
    assert cli.main(["runs", "resume"]) == 2
    assert "--all" in capsys.readouterr().err
    assert cli.main(["runs", "resume", "--all"]) == 0
    assert "nothing to resume" in capsys.readouterr().err
    assert cli.main(["runs", "resume", "first", "--failed"]) == 2
    assert cli.main(["runs", "resume", "--all", "--follow"]) == 2


def test_resume_all_in_a_start_up_script_before_there_is_any_run_is_no_mistake(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert json.loads(said(capsys, "runs", "resume", "--all", "--json")) == []
    assert not (home / "ledger.db").exists()


def test_resume_all_says_what_it_did_and_what_it_could_not_do(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.jobs.spawn", lambda ledger, job: None)
    monkeypatch.setattr(jobs, "FRESH", 0.5)  # the reboot was quick: the hearts have beaten just now
    lost, gone = make_run(ledger, "lost", State.RUNNING), make_run(ledger, "gone", State.RUNNING)
    make_run(ledger, "failed", State.FAILED)
    with ledger.transaction() as connection:
        connection.execute("UPDATE job SET boot_id = 'before the reboot'")
    shutil.rmtree(gone.folder)
    told = json.loads(said(capsys, "runs", "resume", "--all", "--json", code=2))
    assert [(each["name"], each["was"], each["state"]) for each in told] == [
        ("lost", "lost", "queued"),
        ("gone", "lost", "lost"),
    ]
    assert told[0]["uid"] == lost.uid and told[0]["problem"] is None and "folder of gone" in told[1]["problem"]
    assert "failed" in said(capsys, "runs", "resume", "--all", "--failed", code=2)


def test_the_queue_is_shown_and_changed(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said(capsys, "runs", "queue") == ""
    for name in ("a", "b", "c"):
        run = runs.create(ledger, name=name, runs_folder=ledger.path.parent, profile="", settings={})
        job = jobs.create(ledger, "train", run=run.id, argument={"queue": True}, log=run.folder / "log.txt")
        queue.set_places(ledger, job, ("GPU-0",))
        jobs.beat(ledger, jobs.sign_in(ledger, job, pid=os.getpid()), doing=f"{name} waits")

    def order(*words: str) -> list[str]:
        shown = json.loads(said(capsys, "runs", "queue", *words, "--json"))
        assert [each["place"] for each in shown] == [1, 2, 3]
        assert all(each["gpus"] == ["GPU-0"] and each["doing"] == f"{each['name']} waits" for each in shown)
        return [each["name"] for each in shown]

    assert order() == ["a", "b", "c"]
    assert order("c", "--first") == ["c", "a", "b"]
    assert order("c", "--last") == ["a", "b", "c"]
    assert order("c", "--before", "b") == ["a", "c", "b"]
    assert "c waits" in said(capsys, "runs", "queue")
    listed = json.loads(said(capsys, "runs", "list", "--json"))
    assert {run["name"]: run["queue"] for run in listed} == {"a": 1, "b": 3, "c": 2}
    assert "queued 3" in said(capsys, "runs")
    assert cli.main(["runs", "queue", "a"]) == 2
    assert cli.main(["runs", "queue", "--first"]) == 2
    make_run(ledger, "done")
    assert cli.main(["runs", "queue", "done", "--first"]) == 2
    assert "not waiting in the queue" in capsys.readouterr().err


def test_what_a_command_wrote_is_in_the_file_that_people_copy(ledger: Ledger, tmp_path: Path) -> None:
    make_run(ledger, "first")
    assert cli.main(["runs", "note", "first", "take me along"]) == 0
    shutil.copy(ledger.path, tmp_path / "laptop.db")  # without its -wal
    with Ledger.open(tmp_path / "laptop.db") as copy:
        assert runs.find(copy, "first").note == "take me along"
