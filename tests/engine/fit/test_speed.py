"""Time: what makes a step slower, what runs on this machine teach, and what several GPUs gain and cost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.fit import asking, shapes, speed
from engine.fit.cards import Card, named
from engine.fit.facts import Facts
from engine.fit.question import Machine
from engine.fit.speed import Times
from engine.profile import Profile, changed

BASE = "meta-llama/Llama-3.1-8B"


def times(
    rows: int = 4,
    *,
    card: Card | None = None,
    recomputes: bool = False,
    machine: Machine | None = None,
    base: str = BASE,
    **settings: object,
) -> Times:
    profile = changed(
        Profile.model_validate({"model": {"base": base}, "data": [{"source": "rows.jsonl"}]}),
        {"training.packing": False, **settings},
    )
    facts = Facts(shapes.config_of(base), 1600, 100, 0, 1024, 1024.0, 512)
    asked = asking.question(profile, facts, rows=rows, checkpointing=recomputes, machine=machine or Machine((8, 0)))
    found = speed.times(asked, profile, facts, card or named("A100 80GB"))
    assert found is not None
    return found


def slower(one: Times, other: Times) -> bool:
    return all(mine > its for mine, its in zip(one.step, other.step, strict=True))


def test_what_takes_more_work_takes_longer() -> None:
    plain = times()
    assert slower(times(recomputes=True), plain)
    assert slower(times(**{"method.name": "full"}), plain)
    assert slower(times(**{"model.dtype": "float32"}), plain)
    assert slower(times(**{"model.quantization": "nf4"}), plain)  # weights are unpacked at every pass
    assert slower(times(card=named("RTX 4090")), plain)
    assert slower(plain, times(**{"method.name": "ia3"}))


def test_the_interval_is_in_order_and_adds_up() -> None:
    found = times()
    for low, high in (found.run, found.step, found.tokens_per_second):
        assert 0 < low < high
    assert found.tokens_per_second[1] == pytest.approx(16 * 1024 / found.step[0])
    steps = 3 * 1600 / 16
    assert found.run[0] > steps * found.step[0]  # and validation


def test_a_token_that_meets_few_experts_costs_what_these_do() -> None:
    moe, dense = times(base="Qwen/Qwen3-30B-A3B"), times(base="Qwen/Qwen3-32B")
    assert sum(moe.step) < 0.4 * sum(dense.step)


def test_what_runs_reached_here_makes_the_interval_narrower() -> None:
    card = named("A100 80GB")
    assert card.spec
    taught = times(card=replace(card, efficiency=(0.36, 0.40)))
    assert taught.step[1] / taught.step[0] == pytest.approx(0.40 / 0.36)
    plain = times()
    assert plain.step[1] / plain.step[0] > 1.8


def test_two_gpus_nearly_halve_it_and_a_slow_link_takes_its_share() -> None:
    alone = times()
    two = times(machine=Machine((8, 0), 2))
    assert 0.5 <= sum(two.run) / sum(alone.run) < 0.55
    parts = Machine((8, 0), 8, "shard")
    by_wire = replace(named("A100 80GB"))
    assert by_wire.spec
    by_bus = replace(by_wire, spec=replace(by_wire.spec, link_gb_s=25.0))
    full = {"method.name": "full"}
    assert slower(times(1, machine=parts, card=by_bus, **full), times(1, machine=parts, card=by_wire, **full))


def test_nothing_is_said_of_a_card_or_a_model_that_is_not_known() -> None:
    profile = Profile.model_validate({"model": {"base": BASE}, "data": [{"source": "rows.jsonl"}]})
    facts = Facts(shapes.config_of(BASE), 1600, 100, 0, 1024, 1024.0, 512)
    asked = asking.question(profile, facts, rows=1, checkpointing=False, machine=Machine((8, 0)))
    assert speed.times(asked, profile, facts, replace(named("T4"), spec=None)) is None
    assert speed.times(asked, profile, replace(facts, config={"model_type": "mamba"}), named("T4")) is None
