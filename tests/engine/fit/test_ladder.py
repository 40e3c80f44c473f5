"""The ladder: cheapest first, nothing that is needless, several GPUs, and nothing that cannot be."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.fit import estimate, shapes
from engine.fit.cards import Card, named
from engine.fit.estimate import GpuFit
from engine.fit.facts import Facts
from engine.fit.ladder import ladder
from engine.profile import Profile, changed

BASE = {"model": {"base": "meta-llama/Llama-3.1-8B"}, "data": [{"source": "rows.jsonl"}]}


def profile(**values: object) -> Profile:
    return changed(Profile.model_validate(BASE), values)


def facts(tokens: int = 2048) -> Facts:
    return Facts(shapes.config_of("meta-llama/Llama-3.1-8B"), 1000, 50, 0, tokens, 0.5 * tokens, tokens // 2)


def card(free_gib: float, uuid: str = "") -> Card:
    return replace(named("RTX 4090"), uuid=uuid, total_mib=24_564.0, free_mib=free_gib * 1024)


def test_a_rung_that_later_ones_make_needless_is_left_out() -> None:
    rungs = estimate.fit(profile(**{"training.micro_batch": 1}), facts(), card(11)).ladder
    keys = [key for rung in rungs for key in rung.change]
    assert "model.quantization" in keys
    assert "training.optimizer" not in keys  # saves little of an adapter's, and 4 bits are needed all the same
    assert rungs[-1].fits


def test_what_needs_no_8_bit_states_in_the_end_needs_no_rung_that_they_stood_in_the_way_of() -> None:
    wide = profile(**{"method.rank": 1024, "method.alpha": 1024})
    (rung,) = estimate.fit(wide, facts(256), named("RTX 4090")).ladder
    assert rung.fits
    assert rung.change == {"hardware.ranks": 4, "hardware.sharding": "shard"}  # and not what the profile says already


def test_all_of_a_rungs_gains_add_up() -> None:
    start = profile(**{"training.micro_batch": 8, "training.checkpoint_activations": False, "model.dtype": "float32"})
    found = estimate.fit(start, facts(), card(20))
    end = start
    for rung in found.ladder:
        end = changed(end, rung.change)
    there = estimate.fit(end, facts(), card(20))
    assert there.fits
    saved = found.predicted_process_mib - there.predicted_process_mib
    assert abs(saved - sum(rung.saves_mib for rung in found.ladder)) < 1
    assert found.ladder[0].change == {"training.micro_batch": "auto"}
    assert {"model.dtype": "bfloat16"} in [rung.change for rung in found.ladder]


def test_short_types_are_those_that_the_card_has() -> None:
    wide = profile(**{"model.dtype": "float32", "model.base": "meta-llama/Llama-3.1-8B"})
    rungs = estimate.fit(wide, facts(512), named("V100 32GB")).ladder
    assert {"model.dtype": "float16"} in [rung.change for rung in rungs]


def test_several_gpus_share_what_one_cannot_hold() -> None:
    full = profile(**{"method.name": "full", "training.learning_rate": 1e-5, "model.quantization": "none"})
    alone = [card(23.0, "GPU-a")]
    together = [card(23.0, f"GPU-{letter}") for letter in "abcdefgh"]
    rungs = estimate.fit(full, facts(), together[0], beside=alone).ladder
    assert not any("hardware.ranks" in rung.change for rung in rungs)
    shard = profile(
        **{"hardware.gpus": "auto", "hardware.ranks": 8, "method.name": "full", "training.learning_rate": 1e-5}
    )
    found = estimate.fit(shard, facts(), together[0], beside=together)
    assert (found.ranks, found.sharding) == (8, "shard")  # auto: the whole does not fit
    whole = estimate.fit(changed(shard, {"hardware.sharding": "replicate"}), facts(), together[0], beside=together)
    assert found.predicted_process_mib < whole.predicted_process_mib / 4


def test_slices_of_a_gpu_do_not_work_together() -> None:
    for name in ("A100 40GB MIG 1g.5gb", "RTX 4090"):
        rungs = estimate.fit(profile(**{"method.rank": 1024}), facts(256), named(name)).ladder
        assert any("hardware.ranks" in rung.change for rung in rungs) == (name == "RTX 4090")


def test_a_smaller_rank_comes_last_and_keeps_the_scale_of_the_adapter() -> None:
    small = {"model.quantization": "nf4", "training.micro_batch": 1, "training.checkpoint_activations": True}
    small |= {"training.optimizer": "adamw_8bit", "template.max_tokens": 256, "method.rank": 512, "method.alpha": 1024}
    *_, last = estimate.fit(profile(**small), facts(256), card(9.5, "GPU-a"), beside=[card(9.5, "GPU-a")]).ladder
    assert (last.change, last.fits) == ({"method.rank": 8, "method.alpha": 16}, True)


def test_what_has_room_is_not_told_of_gpus_that_are_not_here() -> None:
    slow = profile(**{"training.micro_batch": 1, "training.checkpoint_activations": True})
    rungs = estimate.fit(slow, facts(), named("H200")).ladder
    assert rungs and not any("hardware.ranks" in rung.change for rung in rungs)


def test_what_cannot_be_cut_is_not_spread_in_parts() -> None:
    together = [card(5.0, f"GPU-{letter}") for letter in "abcdefgh"]
    for method, spread in (("lora", True), ("prefix", False)):
        asked = profile(**{"method.name": method, "model.quantization": "nf4", "template.max_tokens": 256})
        found = estimate.fit(asked, facts(256), together[0], beside=together)
        assert not found.fits
        assert any(rung.change.get("hardware.sharding") == "shard" for rung in found.ladder) == spread


def test_the_gpu_with_least_room_decides_for_several() -> None:
    roomy, tight = card(23.0, "GPU-a"), card(4.0, "GPU-b")
    small = profile(**{"training.micro_batch": 1})
    rungs = estimate.fit(small, facts(512), roomy, beside=[roomy, tight]).ladder
    assert not any(rung.change.get("hardware.ranks") == 2 for rung in rungs)
    rungs = estimate.fit(small, facts(512), roomy, beside=[roomy, replace(roomy, uuid="GPU-c")]).ladder
    assert any(rung.change.get("hardware.ranks") == 2 for rung in rungs)


def test_several_gpus_are_as_fast_as_the_slowest_of_them() -> None:
    small = profile(**{"training.micro_batch": 1})
    slow = replace(named("RTX 3090"), uuid="GPU-b", total_mib=24_576.0, free_mib=23.5 * 1024)
    fast = card(23.0, "GPU-a")

    def factor(*together: Card) -> float:
        rungs = estimate.fit(small, facts(512), fast, beside=together).ladder
        (time,) = [rung.time for rung in rungs if rung.change.get("hardware.ranks") == 2]
        assert time is not None
        return time

    assert factor(fast, slow) > 1.2 * factor(fast, replace(fast, uuid="GPU-c"))  # though the slow one has more room


def test_a_smaller_rank_keeps_about_its_alpha_and_writes_it_short() -> None:
    for rank, alpha, smaller in ((24, 64, 21.0), (16, 32, 16.0), (256, 16, 0.5), (48, 16, 2.7)):
        wide = profile(**{"method.rank": rank, "method.alpha": alpha})
        now = replace(estimate.fit(wide, facts(256), card(8), climb=False), fits=False)

        def judge(tried: Profile, now: GpuFit = now) -> GpuFit:
            enough = tried.method.rank == 8
            return replace(now, fits=enough, predicted_process_mib=now.predicted_process_mib - 1000 * enough)

        (rung,) = ladder(wide, now, judge, 1)
        assert rung.change == {"method.rank": 8, "method.alpha": smaller}


def test_a_gpu_that_others_hold_is_said_not_to_do() -> None:
    taken = card(1.2, "GPU-a")
    found = estimate.fit(profile(), facts(), taken, beside=[taken])
    assert not found.fits
    assert found.headroom_mib < 0
    assert not found.ladder or not found.ladder[-1].fits
    assert (found.micro_batch, found.micro_batch_max, found.longest_tokens) == (1, 0, 0)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(["full", "lora", "ia3", "prefix", "prompt_tuning"]),
    st.sampled_from(["none", "nf4", "int8"]),
    st.sampled_from(["sft", "dpo"]),
    st.sampled_from([1, 3, 16, 65_536]),
    st.sampled_from([16, 1000, 1_048_576]),
    st.floats(0.1, 140),
)
def test_whatever_is_asked_the_ladder_keeps_its_word(
    method: str, quantization: str, objective: str, batch: int, tokens: int, gib: float
) -> None:
    if method == "full":
        quantization = "none"
    asked = profile(
        **{
            "method.name": method,
            "model.quantization": quantization,
            "training.objective": objective,
            "training.effective_batch": batch,
            "template.max_tokens": tokens,
        }
    )
    rows = replace(facts(tokens), rows_per_example=2 if objective == "dpo" else 1)
    found = estimate.fit(asked, rows, card(gib))
    reached = asked
    for rung in found.ladder if not found.fits else ():
        assert rung.saves_mib >= 0
        reached = changed(reached, rung.change)
        assert estimate.fit(reached, rows, card(gib), climb=False).fits == rung.fits
    assert found.micro_batch_max == 0 or batch % found.micro_batch_max == 0
    assert found.fits == (found.headroom_mib >= asked.hardware.headroom_mib)
