"""What Configure makes of an estimate: bars, verdicts, rungs and spans, without a screen."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import Problem
from engine.fit.estimate import Estimate, GpuFit, Parts
from engine.fit.failures import Failure
from engine.fit.history import PastErrors
from engine.fit.ladder import Rung
from engine.fit.question import Machine, Phase, Question, Step
from engine.gpu import Gpu
from engine.profile import Profile
from screens.configure import rungs
from screens.configure.bars import BEYOND, MARK, PARTS, bar, legend, wrapped
from screens.configure.judging import Judgement, Room
from screens.configure.told import beside
from screens.configure.verdict import ends, verdict
from tests.screens.example import NOW

NOTHING = Parts(0, 0, 0, 0, 0, 0, 0, 0)
QUESTION = Question({}, {}, {}, {}, Step(1, 8, 8, False, False, False), Machine(None))
PROFILE = Profile.model_validate({"model": {"base": "x"}, "data": [{"source": "y.jsonl"}]})
RUNG = Rung({"training.checkpoint_activations": True}, 9728.0, 1.33, "the same result, slower", fits=True)


def fit(parts: Parts, *, total: float = 24_564.0, free: float = 24_000.0, ladder: tuple[Rung, ...] = ()) -> GpuFit:
    """A GPU on which these parts are taken."""
    process = sum(getattr(parts, name) for name in PARTS)
    return GpuFit(
        name="GeForce RTX 4090",
        uuid="GPU-a",
        total_mib=total,
        free_mib=free,
        fits=process <= free - 512,
        headroom_mib=free - process,
        micro_batch=4,
        micro_batch_max=8,
        longest_tokens=2048,
        checkpoint_activations=True,
        ranks=1,
        sharding="replicate",
        source="simulated",
        predicted_allocated_mib=process,
        predicted_reserved_mib=process,
        predicted_process_mib=process,
        parts=parts,
        phases=MappingProxyType({Phase.LOAD: (1024.0, 2048.0), Phase.BACKWARD: (4096.0, 5120.0)}),
        seconds=(720.0, 900.0),
        step_seconds=(1.0, 1.25),
        tokens_per_second=(4100.0, 5000.0),
        kwh=(0.07, 0.09),
        ladder=ladder,
        question=QUESTION,
    )


def judged(*fits: GpuFit, **more: object) -> Judgement:
    """A judgement of 84 steps on GPUs of which the first is gpu0."""
    estimate = Estimate("simulated", 84, fits[0].seconds, fits, None)
    gpus = tuple(Gpu(each.uuid, place, each.name) for place, each in enumerate(fits))
    return replace(Judgement(PROFILE, estimate, gpus=gpus), **more)  # type: ignore[arg-type]


def said(judgement: Judgement | None, problems: dict[str, str] | None = None, width: int = 200) -> str:
    return verdict(judgement, problems or {}, NOW, width).plain


sizes = st.floats(0, 1e9, allow_nan=False)
parts = st.builds(Parts, *[sizes] * 8)


@given(parts, st.floats(1, 1e6), st.floats(0, 1), st.integers(4, 200), st.floats(0, 4096))
def test_a_bar_is_as_wide_as_asked_for_and_says_what_does_not_find_room(
    taken: Parts, total: float, share: float, width: int, headroom: float
) -> None:
    made = bar(fit(taken, total=total, free=total * share), headroom, width, lambda number: "red")
    assert made.cell_length == width
    cells = sum(getattr(taken, name) for name in PARTS) * width / total
    if abs(cells - width) > 1:
        assert made.plain.endswith(BEYOND) == (cells > width)
    letters = {letter for letter, _ in PARTS.values()}
    assert all(made.plain.count(letter) <= 1 for letter in letters)


def test_what_a_bar_holds_is_lettered_in_order_with_what_is_free_and_what_is_used() -> None:
    taken = replace(NOTHING, weights=8_000, activations=4_000, context=1_000)
    made = bar(fit(taken, total=24_000, free=20_000), 1_000, 24, lambda number: f"colour{number}")
    assert made.plain == "W███████A███C······" + MARK + "╱╱╱╱"
    told = [word.plain for word in legend(taken, 4_000, lambda number: "red")]
    assert told == ["W weights 7.8", "A activations 3.9", "C context 1.0", "╱ in use 3.9"]


def test_wrapped_words_stay_whole() -> None:
    words = legend(replace(NOTHING, weights=1_024, logits=2_048, context=400), 0, lambda number: "red")
    lines = [line.plain for line in wrapped(words, 27)]
    assert lines == ["W weights 1.0  L logits 2.0", "C context .4"]


def test_what_is_no_tenth_of_a_gib_is_told_in_mib_and_nothing_is_left_out() -> None:
    words = legend(replace(NOTHING, weights=12, logits=0.2), 0, lambda number: "red")
    assert [word.plain for word in words] == ["W weights 12 MiB"]


def test_the_verdict_is_whether_where_how_long_and_what_of_the_disk() -> None:
    room = Room(download=14_500_000_000, needed=9e9, free=412_000_000_000)
    told = said(judged(fit(replace(NOTHING, weights=18_368)), room=room))
    assert told == (
        "✓ fits gpu0 RTX 4090, 5.5 GiB to spare · 84 steps · 12-15m, ends 13:17-13:20 · download 14 GB · "
        "disk 9 GB of 412 GB"
    )
    narrow = said(judged(fit(replace(NOTHING, weights=18_368)), room=room), width=78)
    assert [len(line) <= 78 for line in narrow.split("\n")] == [True, True]


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (26_000, "✗ does not fit gpu0 RTX 4090: 2.0 GiB are missing"),
        (24_020, "✗ does not fit gpu0 RTX 4090: 20 MiB are missing"),
        (23_900, "✗ fits gpu0 RTX 4090, too tightly: 100 MiB to spare"),
    ],
)
def test_the_verdict_says_what_is_missing(weights: float, words: str) -> None:
    assert said(judged(fit(replace(NOTHING, weights=weights)))).startswith(words)


def test_the_verdict_puts_what_is_wrong_first() -> None:
    fine = judged(fit(NOTHING))
    assert said(None).startswith("looking at")
    assert said(fine, {"method.rank": "is too large"}) == "✗ a value is wrong: method.rank  is too large"
    assert said(replace(fine, problem=Problem("It is gated", "You are not let in.", "Ask."))) == (
        "✗ It is gated. You are not let in. Ask."
    )
    assert said(replace(fine, room=Room(0, 9e9, 10**9))) == "✗ the disk is too full: 9 GB are needed, 1 GB are free"
    assert "simulating it" in said(replace(fine, unanswered=QUESTION))


def test_an_end_is_a_span_where_it_is_not_sure() -> None:
    assert ends((0.2, 0.9), NOW) == "within a second"
    assert ends((60.0, 62.0), NOW) == "1m, ends 13:06"
    assert ends((3600.0, 7200.0), NOW).startswith("1-2h, ends 14:05-15:05")
    assert ends((3600.0, 48 * 3600.0), NOW) == "1h-2d, ends 14:05 to Sat 13:05"


def test_a_rung_is_told_with_what_it_saves_and_costs() -> None:
    assert rungs.words([RUNG]) == "checkpoint activations on -9.5 GiB +33 %"
    assert rungs.memory(replace(RUNG, saves_mib=-40.0)) == "+40 MiB"
    assert rungs.memory(replace(RUNG, saves_mib=0.2)) == rungs.time(replace(RUNG, time=None)) == ""
    assert rungs.time(replace(RUNG, time=62.4)) == "x 62"
    tight = fit(replace(NOTHING, weights=30_000), ladder=(replace(RUNG, fits=False),))
    assert "not be enough" in rungs.lines(tight, 60)[0].plain


def test_all_of_the_estimate_is_told_where_there_is_room_and_the_most_important_where_there_is_not() -> None:
    from engine.fit.facts import Facts

    facts = Facts({}, 405, 45, 50, 1024, 248.0, 800)
    failure = Failure("lora-64", "uid", "OOM at 12", NOW - 3 * 86_400, (("method.rank", 8, 16),))
    judgement = judged(
        fit(replace(NOTHING, weights=9_000, context=500), ladder=(RUNG,)),
        facts=facts,
        errors=PastErrors(9, 2.1, -5.0),
        failures=(failure,),
        notes=("a note",),
    )
    for full in (True, False):
        lines = beside(judgement, 76, lambda number: "red", NOW, full=full).plain.split("\n")
        assert max(map(len, lines)) <= 76
        for words in (
            "gpu0 RTX 4090",
            "simulated, ±2 % in 9 runs",
            "4.1-5k tok/s · .07-.09 kWh",
            "! a run like this failed here: OOM at 12, lora-64, 3d ago; rank was 8, is 1",
            "checkpoint activations on",
            "micro-batch 4 of at most 8 · activations recomputed",
            "· a note",
        ):
            assert any(words in line for line in lines), words
        assert any("12-15m" in line for line in lines) == full  # else the verdict above says it
        phases = [line.split()[0] for line in lines if "━" in line]
        assert phases == (["load", "backward"] if full else [])
