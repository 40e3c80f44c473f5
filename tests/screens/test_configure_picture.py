"""How Configure looks: on a made-up judgement, so that no formula changes the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from textual.pilot import Pilot

from engine.fit.facts import Facts
from engine.fit.history import PastErrors
from engine.fit.ladder import Rung
from engine.ledger import Ledger
from screens.configure.judging import Judge, Judgement, Room
from screens.messages import ConfigureFrom
from screens.session import Session
from tests.screens import configuring
from tests.screens.driving import until
from tests.screens.example import NOW
from tests.screens.test_configure_told import NOTHING, fit, judged
from workbench.app import WorkbenchApp

FAST: Final = (
    Rung({"training.checkpoint_activations": False}, -5_120.0, 0.78, "the same result", True),
    Rung({"training.micro_batch": 8}, -3_072.0, 0.94, "the same result", True),
)


def judgement() -> Judgement:
    """The GPU of SCREENS: 9.1 of 23.6 GiB; and one that others fill."""
    parts = replace(NOTHING, weights=2_970, adapter=100, gradients=100, optimizer=300)
    parts = replace(parts, activations=4_000, logits=40, temporaries=1_330, context=500)
    mine = fit(parts, total=24_564.0, free=24_166.0, ladder=FAST)
    full = replace(fit(parts, total=143_771.0, free=9_400.0), name="NVIDIA H200", uuid="GPU-b", fits=False)
    return judged(
        mine,
        full,
        facts=Facts({}, 450, 50, 500, 1_452, 318.0, 800),
        errors=PastErrors(9, 2.1, -4.0),
        room=Room(2_600_000_000, 9e9, 412_000_000_000),
        notes=("the hub was not asked: this is a picture",),
    )


@pytest.mark.parametrize("size", [(80, 24), (160, 48)], ids=["80x24", "160x48"])
def test_picture(
    ledger: Ledger,
    tmp_path: Path,
    tiny_base: Path,
    monkeypatch: pytest.MonkeyPatch,
    snap_compare: Callable[..., bool],
    size: tuple[int, int],
) -> None:
    folder = configuring.working_folder(tmp_path / "here", tiny_base)
    monkeypatch.chdir(folder)

    def judge(*_: object) -> Iterator[Judgement]:
        yield judgement()

    monkeypatch.setattr(Judge, "judge", judge)

    async def ready(pilot: Pilot[None]) -> None:
        app = pilot.app
        assert isinstance(app, WorkbenchApp)
        await app.on_configure_from(ConfigureFrom(folder / "tiny.toml"))
        await until(pilot, lambda: "fits gpu0" in configuring.text(pilot, "#verdict"))
        await pilot.pause()

    session = Session(ledger, tmp_path / "runs", clock=lambda: NOW, gpus=lambda: (configuring.RTX, configuring.T4))
    assert snap_compare(WorkbenchApp(session), terminal_size=size, run_before=ready)
