"""Whose turn it is: locks that end with their process, several GPUs at once, memory that others hold, and the words for what is waited for."""

from __future__ import annotations

import fcntl
import getpass
import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from engine import gpu, turns
from engine.errors import Problem
from engine.profile import Hardware
from engine.turns import Places

CPU = [("cpu",)]


class GivenUpError(Exception):
    """Raised where a test does not want to wait."""


def give_up(what: str) -> None:
    raise GivenUpError(what)


def held(*places: str) -> str:
    """What a queued job would be told that wants all of these now; empty if it would get them."""
    try:
        with turns.turn([places], queue=True, wait=give_up):
            return ""
    except GivenUpError as given:
        return str(given)


def test_an_exclusive_turn_waits_for_all_others_and_now_means_now() -> None:
    with turns.turn(CPU, queue=False, wait=give_up), turns.turn(CPU, queue=False, wait=give_up):
        assert held("cpu") == f"waiting for the CPU: process {os.getpid()} of {getpass.getuser()} has it"
    with turns.turn(CPU, queue=True, wait=give_up), turns.turn(CPU, queue=False, wait=give_up):
        pass  # started now, it does without the lock


def test_who_is_ahead_in_the_queue_is_waited_for_even_where_the_place_is_free() -> None:
    before = ["first", "first", ""]
    waited: list[str] = []
    with turns.turn(CPU, queue=True, wait=waited.append, ahead=lambda places: before.pop(0)) as taken:
        assert taken == ("cpu",) and waited == ["waiting behind first"] * 2


def test_a_run_that_names_no_gpu_takes_the_first_to_be_free() -> None:
    options: Sequence[Places] = [("GPU-a",), ("GPU-b",)]
    with (
        turns.turn(options, queue=True, wait=give_up) as first,
        turns.turn(options, queue=True, wait=give_up) as second,
    ):
        assert (first, second) == (("GPU-a",), ("GPU-b",))
        with pytest.raises(GivenUpError, match="GPU-a"), turns.turn(options, queue=True, wait=give_up):
            pass
    assert not held("GPU-a", "GPU-b")


def test_what_it_may_not_take_for_those_ahead_of_it_leaves_it_the_others() -> None:
    ahead: dict[Places, str] = {("GPU-a",): "first"}
    with turns.turn(
        [("GPU-a",), ("GPU-b",)], queue=True, wait=give_up, ahead=lambda places: ahead.get(places, "")
    ) as taken:
        assert taken == ("GPU-b",) and not held("GPU-a")


def test_jobs_that_need_several_gpus_take_all_or_none_and_never_lock_each_other_out() -> None:
    with turns.turn([("GPU-b",)], queue=True, wait=give_up):
        assert "GPU-b" in held("GPU-a", "GPU-b")
        assert not held("GPU-a"), "it kept one of the two that it needs"
    done: list[str] = []

    def take(name: str, places: Places) -> None:
        for _ in range(50):
            with turns.turn([places], queue=True, wait=lambda what: None):
                pass
        done.append(name)

    threads = [
        threading.Thread(target=take, args=("one", ("GPU-a", "GPU-b")), daemon=True),
        threading.Thread(target=take, args=("two", ("GPU-b", "GPU-a")), daemon=True),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == ["one", "two"]


def test_gpus_shared_with_other_people_are_waited_for_saying_whose_and_until_the_memory_stays_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free = iter([900.0, 2000.0, 900.0] + [2000.0] * 6)
    waited: list[str] = []
    one = gpu.Gpu(uuid="GPU-1", index=3, name="H100")
    monkeypatch.setattr(turns, "gpus", lambda: (replace(one, free_mib=next(free)),))
    monkeypatch.setattr(turns, "holders", lambda uuid: (gpu.Holder(os.getpid(), "alice", 700.0),))
    with turns.turn([("GPU-1",)], queue=True, wait=waited.append, needs_mib=1500):
        pass
    whose = f"process {os.getpid()} of {getpass.getuser()} holds 700"
    assert waited[0] == f"waiting for 1,500 MiB to be free on GPU 3, 900 are: {whose}"
    assert [what == waited[0] for what in waited] == [True, False, True, *[False] * 5]


def test_a_gpu_whose_memory_is_taken_is_passed_over_for_one_that_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    full, empty = (
        gpu.Gpu(uuid=f"GPU-{name}", index=0, name="T4", free_mib=mib) for name, mib in (("a", 10.0), ("b", 9e3))
    )
    monkeypatch.setattr(turns, "gpus", lambda: (full, empty))
    with turns.turn([("GPU-a",), ("GPU-b",)], queue=True, wait=lambda what: None, needs_mib=1500) as taken:
        assert taken == ("GPU-b",) and not held("GPU-a")


def test_gpus_are_named_by_uuid_or_index(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = (gpu.Gpu(uuid="GPU-a", index=0, name="T4"), gpu.Gpu(uuid="GPU-b", index=1, name="L4"))
    monkeypatch.setattr(turns, "gpus", lambda: seen)
    assert turns.places(Hardware(device="cuda")) == ("GPU-a",)
    assert turns.places(Hardware(device="cuda", gpus=(1,))) == ("GPU-b",)
    assert turns.places(Hardware(device="cuda", gpus=("GPU-b", 0))) == ("GPU-b", "GPU-a")
    assert turns.places(Hardware(device="cpu")) == ("cpu",)
    with pytest.raises(Problem, match="no GPU 7"):
        turns.places(Hardware(device="cuda", gpus=(7,)))
    monkeypatch.setattr(turns, "gpus", lambda: ())
    with pytest.raises(Problem, match="no GPU for this run"):
        turns.places(Hardware(device="cuda"))


def test_gpus_with_less_memory_are_not_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"GPU-small": 16_000.0, "GPU-mine": 24_000.0, "GPU-twin": 23_990.0, "GPU-big": 80_000.0, "GPU-silent": None}
    seen = tuple(gpu.Gpu(uuid=uuid, index=0, name="", total_mib=size) for uuid, size in sizes.items())
    monkeypatch.setattr(turns, "gpus", lambda: seen)
    assert turns.alike("GPU-mine") == ("GPU-mine", "GPU-twin", "GPU-big")


def test_other_users_can_take_the_lock() -> None:
    with turns.turn(CPU, queue=True, wait=give_up):
        path = Path(os.environ["TMPDIR"]) / "workbench-gpus" / "cpu.lock"
        assert path.stat().st_mode & 0o777 == 0o666 and path.parent.stat().st_mode & 0o7777 == 0o1777
        with path.open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)


@pytest.mark.parametrize("asked", ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", ""])
def test_torch_sees_the_taken_gpus_alone_and_is_told_how_to_keep_memory_unless_the_user_did(
    monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.setenv(name, "")  # put back at the end
        monkeypatch.delenv(name)
    if asked:
        monkeypatch.setenv(asked, "max_split_size_mb:64")
    turns.show_only(("GPU-b", "GPU-a"))
    assert (os.environ["CUDA_VISIBLE_DEVICES"], os.environ["CUDA_DEVICE_ORDER"]) == ("GPU-b,GPU-a", "PCI_BUS_ID")
    told = [os.environ[name] for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF") if name in os.environ]
    assert told == ["max_split_size_mb:64" if asked else "expandable_segments:True"]
