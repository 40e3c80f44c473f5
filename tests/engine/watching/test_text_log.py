"""What a Trainer printed: where it is, which figures belong to which step, and how it ended."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from engine.watching.text_log import TextLog

BAR = "\r {percent}%|██        | {step}/{steps} [00:0{second}<00:06,  4.21it/s]"


def bar(step: int, steps: int = 30, second: int = 1) -> str:
    """As tqdm draws it."""
    return BAR.format(percent=100 * step // steps, step=step, steps=steps, second=second)


def line(step: int) -> str:
    """A line of figures as Trainer lets it through, with the bar taken away before and drawn again after it."""
    return f"\r          \r{{'loss': '{step / 10}', 'grad_norm': 'nan', 'epoch': '0.{step}'}}\n{bar(step)}"


def written(path: Path, text: str) -> TextLog:
    path.write_text(text)
    return TextLog(path)


def test_figures_belong_to_the_bar_behind_them(tmp_path: Path) -> None:
    weights = "\rLoading weights: 100%|██████████| 21/21 [00:00<00:00, 31479.77it/s]"
    evaluation = (
        "\n  0%|          | 0/5 [00:00<?, ?it/s]\x1b[A\r          \r\n\r   \r\x1b[A{'eval_loss': '6.2'}\n" + bar(4)
    )
    told = written(tmp_path / "log", weights + bar(0) + bar(2) + line(2) + bar(3) + line(4) + evaluation).read()
    assert (told.step, told.steps, told.finished, told.unplaced) == (4, 30, False, 0)
    assert told.points["train/loss"].steps.tolist() == [2, 4]
    assert told.points["train/loss"].values.tolist() == [0.2, 0.4]
    assert told.points["validation/loss"].steps.tolist() == [4]
    assert str(told.points["train/grad_norm"].values[0]) == "nan"


def test_figures_in_a_heap_are_counted_and_not_guessed(tmp_path: Path) -> None:
    heap = "{'loss': '1.0', 'epoch': '0.1'}\n{'loss': '0.9', 'epoch': '0.2'}\n"
    told = written(tmp_path / "log", bar(1) + bar(9) + "\n" + heap + bar(10) + line(12)).read()
    assert told.unplaced == 2
    assert told.points["train/loss"].steps.tolist() == [12]


def test_a_line_that_names_its_step_needs_no_bar(tmp_path: Path) -> None:
    told = written(tmp_path / "log", '{"step": 3, "loss": 0.5}\n{"step": 6, "loss": 0.25}\n').read()
    assert told.points["train/loss"].steps.tolist() == [3, 6]
    assert told.step is None


def test_how_it_ended(tmp_path: Path) -> None:
    raised = f'{TextLog.__doc__}\n{bar(6)}Traceback (most recent call last):\n  File "t.py", line 1\n'
    last = "torch.OutOfMemoryError: CUDA out of memory.\n" + bar(6)
    assert written(tmp_path / "log", raised + last).read().raised == "torch.OutOfMemoryError: CUDA out of memory."
    assert written(tmp_path / "log", raised + last + line(8)).read().raised == ""  # it was caught
    assert written(tmp_path / "log", raised + "KeyboardInterrupt\n").read().raised == "KeyboardInterrupt"
    assert written(tmp_path / "log", bar(29) + "\r   \r{'train_runtime': '3.1'}\n" + bar(30)).read().finished


def test_a_file_that_is_written_anew_is_another_run(tmp_path: Path) -> None:
    log = written(tmp_path / "log", bar(1) + line(2) + line(4))
    assert log.read().step == 4
    (tmp_path / "other").write_text(bar(0, 8))
    (tmp_path / "other").replace(tmp_path / "log")
    told = log.read()
    assert (told.step, told.steps, told.points) == (0, 8, {})


@given(cuts=st.lists(st.integers(0, 1000), max_size=6))
def test_however_it_is_cut_the_same_is_read(cuts: list[int]) -> None:
    whole = (bar(0) + line(2) + bar(3) + line(4) + "Saving…\n" + line(6)).encode()
    path = Path(os.environ["TMPDIR"]) / "cut"
    path.write_bytes(b"")
    log = TextLog(path)
    found: dict[int, float] = {}
    at = 0
    for cut in (*sorted(min(cut, len(whole)) for cut in cuts), len(whole)):
        with path.open("ab") as file:
            file.write(whole[at:cut])
        at = cut
        told = log.read()
        if "train/loss" in told.points:
            points = told.points["train/loss"]
            found |= dict(zip(points.steps.tolist(), points.values.tolist(), strict=True))
    assert found == {2: 0.2, 4: 0.4, 6: 0.6}
    assert told.step == 6
