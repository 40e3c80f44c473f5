"""An engine that is killed is seen as lost, and its resumed run ends as one that was never interrupted."""

from __future__ import annotations

import os
import signal

from tests.journeys.place import Place


def test_kill_9_then_resume_ends_bit_for_bit_as_an_uninterrupted_run(place: Place) -> None:
    started = place.figures("train", str(place.profile), "--name", "killed")
    assert started["name"] == "killed"
    place.wait("killed", lambda run: run.step >= 25)
    os.kill(place.pid("killed"), signal.SIGKILL)
    seen = place.wait("killed", lambda run: run.state not in ("starting", "running"))
    assert seen.state == "lost"
    assert seen.step < 120
    (listed,) = place.figures("runs", "list")
    assert (listed["name"], listed["state"]) == ("killed", "lost")
    shown = place.figures("runs", "show", "killed")
    assert shown["checkpoints"], "there is something to go on from"

    place.command("runs", "resume", "killed", "--follow")
    place.command("train", str(place.profile), "--name", "whole", "--follow")
    killed, whole = place.run("killed"), place.run("whole")
    assert (killed.state, whole.state) == ("finished", "finished")
    for kind in ("best", "last"):
        name = f"adapter/{kind}/adapter_model.safetensors"
        assert (killed.folder / name).read_bytes() == (whole.folder / name).read_bytes(), kind
    figures = {run["name"]: run["metrics"] for run in place.figures("runs", "list")}
    for key in ("train/loss", "train/grad_norm", "train/rate", "train/tokens", "validation/loss"):
        assert figures["killed"][key] == figures["whole"][key], key
