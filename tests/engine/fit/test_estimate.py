"""Fitting a profile to a card: what auto chooses, the verdict, and the ladder out of "does not fit"."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from engine.errors import Problem
from engine.fit import estimate, shapes
from engine.fit.cards import Card, named
from engine.fit.facts import Facts
from engine.fit.predicting import Predicted
from engine.fit.question import Part, Question
from engine.profile import Profile, changed

AUTO = {"model": {"base": "Qwen/Qwen3-4B"}, "data": [{"source": "rows.jsonl"}]}


def profile(**settings: object) -> Profile:
    return changed(Profile.model_validate(AUTO), settings)


def facts(base: str = "Qwen/Qwen3-4B-Instruct-2507", tokens: int = 1024) -> Facts:
    return Facts(shapes.config_of(base), 450, 50, 0, tokens, 0.6 * tokens, tokens // 4)


def card(free_gib: float) -> Card:
    return replace(named("RTX 4090"), total_mib=24_564.0, free_mib=free_gib * 1024)


def test_the_large_model_fits_the_large_card_only() -> None:
    found = estimate.estimate(profile(**{"method.name": "full"}), facts(), [named("RTX 4090"), named("H200")])
    assert [gpu.fits for gpu in found.gpus] == [False, True]
    assert found.source == "estimated"
    assert found.cpu is None
    assert found.steps == 87  # three epochs of 29 steps, the last of each partial


def test_parts_add_up_to_the_process() -> None:
    gpu = estimate.estimate(profile(), facts(), [named("RTX 4090")]).gpus[0]
    assert sum(vars(gpu.parts).values()) == pytest.approx(gpu.predicted_process_mib)
    assert gpu.predicted_allocated_mib < gpu.predicted_reserved_mib < gpu.predicted_process_mib
    assert gpu.headroom_mib == pytest.approx(gpu.free_mib - gpu.predicted_process_mib)


def test_auto_takes_the_fastest_that_fits_and_recomputes_only_in_need() -> None:
    found = [estimate.fit(profile(), facts(), card(free)) for free in (12, 16, 23, 40, 80)]
    assert found[0].checkpoint_activations
    assert not found[-1].checkpoint_activations
    times = [fit.seconds[1] for fit in found if fit.seconds]
    assert times == sorted(times, reverse=True)  # more memory never makes it slower
    for gib, fit in zip((12, 16, 23, 40, 80), found, strict=True):
        assert fit.fits
        assert 16 % fit.micro_batch == 0
        for rows in (1, 2, 4, 8, 16):
            for recomputed in (False, True):
                way = profile(**{"training.micro_batch": rows, "training.checkpoint_activations": recomputed})
                other = estimate.fit(way, facts(), card(gib), climb=False)
                assert (
                    not other.fits
                    or not other.seconds
                    or not fit.seconds
                    or sum(other.seconds) > 0.97 * sum(fit.seconds)
                )


def test_what_the_profile_says_is_not_changed() -> None:
    fixed = profile(**{"training.micro_batch": 16, "training.checkpoint_activations": False})
    gpu = estimate.fit(fixed, facts(tokens=4096), card(12))
    assert (gpu.micro_batch, gpu.checkpoint_activations, gpu.fits) == (16, False, False)


def test_a_micro_batch_that_fits_is_none_beyond_the_largest() -> None:
    asked = profile(**{"training.micro_batch": 16, "training.effective_batch": 16})  # auto takes 8 on a CPU at most
    found = estimate.fit(asked, facts(tokens=64), Card("CPU", "cpu", 131_072.0, 131_072.0, None))
    assert found.fits
    assert (found.micro_batch, found.micro_batch_max) == (16, 16)


def test_the_ladder_leads_out_cheapest_first() -> None:
    tight = profile(
        **{"training.micro_batch": 16, "training.checkpoint_activations": False, "template.max_tokens": 4096}
    )
    rungs = estimate.fit(tight, facts(tokens=4096), card(5)).ladder
    keys = [key for rung in rungs for key in rung.change]
    assert keys[:2] == ["training.micro_batch", "training.checkpoint_activations"]
    assert "model.quantization" in keys
    assert all(rung.saves_mib > 0 for rung in rungs)
    assert [rung.fits for rung in rungs] == [False] * (len(rungs) - 1) + [True]
    for rung in rungs:  # climbing it really ends where it says
        tight = changed(tight, rung.change)
    assert estimate.fit(tight, facts(tokens=4096), card(5)).fits


def test_all_weights_of_a_large_model_lead_to_an_adapter() -> None:
    full = profile(**{"method.name": "full", "training.learning_rate": 1e-5})
    rungs = estimate.fit(full, facts(), named("RTX 3060")).ladder
    assert {"method.name": "lora", "training.learning_rate": 2e-4} in [rung.change for rung in rungs]
    assert rungs[-1].fits


def test_with_room_the_ladder_goes_up_to_what_is_faster() -> None:
    slow = profile(**{"training.micro_batch": 1, "training.checkpoint_activations": True})
    rungs = estimate.fit(slow, facts(), named("H200")).ladder
    assert {key for rung in rungs for key in rung.change} >= {"training.checkpoint_activations", "training.micro_batch"}
    assert all(rung.fits and rung.time is not None and rung.time < 1 for rung in rungs)


def test_time_is_an_interval_that_faster_cards_shorten() -> None:
    found = estimate.estimate(profile(), facts(), [named(name) for name in ("L4", "RTX 4090", "H100")]).gpus
    spans = [gpu.seconds for gpu in found if gpu.seconds]
    assert len(spans) == 3
    assert all(low < high for low, high in spans)
    assert all(slow[1] > fast[1] for slow, fast in pairwise(spans))
    unknown = replace(named("L4"), spec=None)
    assert estimate.fit(profile(), facts(), unknown).seconds is None


def test_without_a_gpu_it_is_fitted_to_main_memory() -> None:
    found = estimate.estimate(profile(**{"training.micro_batch": 2}), facts(), [])
    assert found.gpus == ()
    assert found.cpu is not None
    assert found.cpu.total_mib > found.cpu.free_mib > 0
    assert found.seconds == found.cpu.seconds


def test_an_architecture_that_formulas_do_not_understand_is_not_guessed() -> None:
    hybrid = replace(facts(), config={"model_type": "mamba", "num_hidden_layers": 4})
    with pytest.raises(Problem, match="cannot be estimated") as caught:
        estimate.estimate(profile(), hybrid, [named("T4")])
    assert caught.value.code == "shape"
    known = Predicted(3e9, 4e9, {Part.WEIGHTS: 3e9}, {}, "simulated")

    class Simulated:
        def predict(self, question: Question) -> Predicted:
            return known

    (found,) = estimate.estimate(profile(), hybrid, [named("T4")], Simulated()).gpus
    assert (found.fits, found.source, found.seconds) == (True, "simulated", None)
    assert found.predicted_reserved_mib == pytest.approx(4e9 / 2**20)


def test_weights_that_are_quantised_already_are_not_taken_for_whole_ones() -> None:
    for kind, known in (("gptq", False), ("mxfp4", True)):
        packed = replace(facts(), config={**facts().config, "quantization_config": {"quant_method": kind}})
        if known:
            assert estimate.fit(profile(), packed, named("H200")).fits
        else:
            with pytest.raises(Problem, match="cannot be estimated"):
                estimate.fit(profile(), packed, named("H200"))


def test_a_packed_row_takes_the_room_of_all_its_tokens() -> None:
    fixed = {"training.micro_batch": 1, "training.checkpoint_activations": False}
    longer = {"training.packing": True, "training.row_tokens": 4096}
    plain, packed, padded = (
        estimate.fit(profile(**fixed, **more), facts(), card(80)).parts
        for more in ({}, longer, {**longer, "training.packing": False})
    )
    assert packed.activations > 3 * plain.activations
    assert padded == plain


def test_what_fits_leaves_the_headroom_free() -> None:
    fixed = profile(
        **{"training.micro_batch": 1, "training.checkpoint_activations": True, "hardware.headroom_mib": 1000}
    )
    needed = estimate.fit(fixed, facts(), card(23)).predicted_process_mib
    for spare, fits in ((990, False), (1010, True)):
        found = estimate.fit(fixed, facts(), replace(card(23), free_mib=needed + spare))
        assert (found.fits, found.headroom_mib) == (fits, pytest.approx(spare))


def test_every_gpu_of_a_run_takes_power() -> None:
    several = profile(**{"hardware.gpus": "auto", "hardware.ranks": 4, "hardware.sharding": "replicate"})
    here = [replace(card(23), uuid=f"GPU-{letter}") for letter in "abcd"]
    found = estimate.fit(several, facts(), here[0], beside=here)
    assert found.ranks == 4 and found.kwh and found.seconds
    watts = here[0].spec.watts if here[0].spec else 0
    assert found.kwh[1] == pytest.approx(4 * watts * found.seconds[1] / 3.6e6)


def test_auto_never_recomputes_for_a_method_that_does_not_bear_it() -> None:
    prefix = profile(**{"method.name": "prefix", "method.virtual_tokens": 8, "training.packing": False})
    found = estimate.fit(prefix, facts(), card(9))
    assert not found.checkpoint_activations
    assert not any("training.checkpoint_activations" in rung.change for rung in found.ladder)


def test_the_longest_rows_of_preferences_fit_in_pairs() -> None:
    small = card(12)
    alone = estimate.fit(profile(), facts(), small).longest_tokens
    in_pairs = estimate.fit(profile(**{"training.objective": "dpo"}), replace(facts(), rows_per_example=2), small)
    assert 0 < in_pairs.longest_tokens < 0.7 * alone
