"""Each method of the profile on each kind of base: it learns, goes on where it was, and its result loads with PEFT alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, DynamicCache

from engine import compatible, hub
from engine.errors import Problem
from engine.ledger import events, runs
from engine.profile import Profile
from engine.train import adapter, inventory, model, pretrained, quantized, result, validate
from engine.train.batches import Layout, micro_batches
from engine.train.checkpoint import trained
from engine.train.scorer import Scorer
from tests.engine.train import steps
from tests.engine.train.conftest import Bench
from tests.engine.train.steps import CPU, ROWS, Tuning
from tests.engine.train.test_batches import ragged
from tests.models import Family, make
from tests.tiny import tiny_profile

IDS = torch.arange(5, 65).reshape(2, 30)
PROMPTS = ("prefix", "p_tuning", "prompt_tuning")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A plain model, one with biases, one with a tied head, two with experts."""
    folder = tmp_path_factory.mktemp("bases")
    families: tuple[Family, ...] = ("llama", "qwen3", "gpt_oss", "qwen3_moe")
    made: dict[str, Path] = {family: make(family, folder / family) for family in families}
    return {**made, "biased": make("llama", folder / "biased", attention_bias=True, mlp_bias=True)}


def profile(base: Path, **settings: object) -> Profile:
    quick = {"training.learning_rate": 1e-2, "model.dtype": "bfloat16", "method.virtual_tokens": 5}
    return tiny_profile(base, Path("rows"), **{**quick, **settings})


def shaken(tuning: Tuning) -> Tuning:
    """With an adapter that does something: it begins as nothing."""
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in trained(tuning.loaded.model).values():
            weight.add_(0.05 * torch.randn_like(weight))
    return tuning


METHODS: dict[str, tuple[str, dict[str, object]]] = {
    "full": ("qwen3", {"method.name": "full", "training.learning_rate": 1e-3}),
    "rslora": ("llama", {"method.rslora": True}),
    "dora": ("llama", {"method.dora": True}),
    "all biases": ("biased", {"method.bias": "all", "method.targets": ("q_proj", "v_proj")}),
    "biases beside": ("biased", {"method.bias": "lora_only", "method.targets": ("q_proj", "v_proj")}),
    "head": ("llama", {"method.modules_to_save": ("lm_head",)}),
    "tied embeddings": ("qwen3", {"method.modules_to_save": ("embed_tokens",)}),
    "nf4": ("llama", {"model.quantization": "nf4"}),
    "fp4, single": ("llama", {"model.quantization": "fp4", "model.double_quantization": False}),
    "int8": ("llama", {"model.quantization": "int8"}),
    "int8, biases": ("biased", {"model.quantization": "int8", "method.bias": "all", "method.targets": ("q_proj",)}),
    "nf4, biases": ("biased", {"model.quantization": "nf4", "method.bias": "all", "method.targets": ("q_proj",)}),
    "nf4, dora": ("llama", {"model.quantization": "nf4", "method.dora": True}),
    "int8, dora": ("llama", {"model.quantization": "int8", "method.dora": True}),
    "nf4, ia3": ("llama", {"model.quantization": "nf4", "method.name": "ia3"}),
    "int8, ia3": ("llama", {"model.quantization": "int8", "method.name": "ia3"}),
    "nf4, head": ("llama", {"model.quantization": "nf4", "method.modules_to_save": ("lm_head",)}),
    "prefix": ("llama", {"method.name": "prefix"}),
    "p_tuning": ("llama", {"method.name": "p_tuning"}),
    "prompt_tuning": ("qwen3", {"method.name": "prompt_tuning"}),
    "nf4, prompt_tuning": ("llama", {"model.quantization": "nf4", "method.name": "prompt_tuning"}),
    "recomputed": ("llama", {"training.checkpoint_activations": True}),
}


@pytest.mark.parametrize("named", METHODS)
def test_a_method_learns_goes_on_and_leaves_a_result_that_peft_loads(
    bases: dict[str, Path], named: str, tmp_path: Path
) -> None:
    family, settings = METHODS[named]
    tuning = steps.begin(profile(bases[family], **settings))
    before = tuning.take(2)
    place = tuning.save(tmp_path / "checkpoints")
    losses = before + tuning.take(3)
    assert losses[-1] < losses[0]
    again = steps.resume(tuning.profile, place)
    assert before + again.take(3) == losses
    assert steps.same(again.weights(), tuning.weights())
    assert {weight.dtype for weight in tuning.weights().values()} == {torch.float32}

    shaken(tuning)
    kind = result.kind(tuning.profile.method)
    result.write(tmp_path / kind, tuning.loaded, tuning.profile.model)
    loaded = model.load_result(tuning.profile.model, CPU, kind=kind, path=tmp_path / kind)
    said, untuned = (
        tuning.logits(IDS),
        steps.logits(pretrained.load_base(tuning.profile.model, CPU, trainable=False), IDS),
    )
    moved = (said - untuned).abs().max()
    # What was trained in float32 among 16-bit weights is 16-bit where it is only used.
    rounding = 0.0 if tuning.loaded.autocast is None else 0.1 * moved
    torch.testing.assert_close(steps.logits(loaded, IDS), said, rtol=0, atol=float(rounding))
    assert moved > 0.02
    if kind == "adapter" and "quantization" not in str(settings):
        plain = AutoModelForCausalLM.from_pretrained(bases[family], dtype=torch.bfloat16)
        assert torch.equal(
            steps.logits(PeftModel.from_pretrained(plain, tmp_path / kind), IDS), steps.logits(loaded, IDS)
        )


# trl#7268, torchtune#2250: "LoRA adapters in bf16 stop learning: updates are rounded away"
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"method.name": "ia3"},
        {"method.name": "prompt_tuning"},
        {"model.quantization": "nf4", "method.bias": "all", "method.targets": ("q_proj",)},
        {"model.quantization": "int8", "method.bias": "all", "method.targets": ("q_proj",)},
        {"method.bias": "all", "method.modules_to_save": ("lm_head",)},
    ],
    ids=lambda settings: " ".join(str(value) for value in settings.values()) or "lora",
)
def test_adapters_do_not_freeze_on_a_bfloat16_base(bases: dict[str, Path], settings: dict[str, object]) -> None:
    # AdamW moves every weight by about this much: thousandths of the last bit that a bfloat16 of the usual size has.
    rate = 3e-7
    tuning = shaken(steps.begin(profile(bases["biased"], **{**settings, "training.learning_rate": rate})))
    before = tuning.weights()
    tuning.take(3)
    moved = tuning.weights()
    assert {weight.dtype for weight in moved.values()} == {torch.float32}
    shares = {name: float((moved[name] != before[name]).float().mean()) for name in before}
    rounded = sum(int((moved[name].bfloat16() != before[name].bfloat16()).sum()) for name in before)
    assert rounded < 0.02 * sum(weight.numel() for weight in before.values())  # in bfloat16 hardly any would have moved
    assert all(share > 0.5 for name, share in shares.items()), shares


@pytest.mark.parametrize(
    "biases", [{}, {"method.bias": "all", "method.targets": ("q_proj", "down_proj")}], ids=["", "biases"]
)
def test_gradients_through_a_quantised_base_are_those_of_the_weights_that_it_stands_for(
    bases: dict[str, Path], biases: dict[str, object]
) -> None:
    from bitsandbytes.functional import dequantize_4bit

    settings: dict[str, object] = {"model.dtype": "float32", "method.dropout": 0.0, **biases}
    for quantization in ("nf4", "fp4", "int8"):
        tuning = shaken(steps.begin(profile(bases["biased"], **settings, **{"model.quantization": quantization})))
        plain = shaken(steps.begin(profile(bases["biased"], **settings)))
        modules = dict(plain.loaded.model.named_modules())
        for name, layer in quantized.layers(tuning.loaded.model).items():
            part: Any = layer  # what bitsandbytes adds is not declared
            stood = modules[name]
            assert isinstance(stood, nn.Linear)
            if quantization == "int8":
                stood.weight.data = part.weight.data.float() * part.state.SCB[:, None] / 127
            else:
                stood.weight.data = dequantize_4bit(part.weight.data, part.weight.quant_state).float()
        found, expected = (gradients(each) for each in (tuning, plain))
        assert found.keys() == expected.keys() == trained(plain.loaded.model).keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


# bitsandbytes repacks 4-bit weights at the first evaluation on a CPU with AVX512-BF16: gradients had a cosine of .44 with the true ones
@pytest.mark.parametrize("quantization", ["nf4", "fp4", "int8"])
def test_evaluating_does_not_change_the_next_gradient(bases: dict[str, Path], quantization: str) -> None:
    settings = {"model.quantization": quantization, "method.dropout": 0.0}
    tuning = shaken(steps.begin(profile(bases["llama"], **settings)))
    layers = quantized.layers(tuning.loaded.model).values()
    assert layers and not any(
        getattr(layer, "support_avx512bf16_for_cpu", False) for layer in layers
    )  # whatever CPU this is
    before = gradients(tuning)
    tuning.logits(IDS)
    after = gradients(tuning)
    assert steps.same(before, after)


def gradients(tuning: Tuning) -> dict[str, Tensor]:
    """Of the mean loss over the rows."""
    scorer = Scorer(tuning.loaded.model, tuning.loaded.autocast)
    tuning.loaded.model.zero_grad(set_to_none=True)
    for batch in micro_batches(ROWS, range(ROWS.examples), Layout(4, pad_id=0)):
        scorer(batch).mean().backward()
    return {name: w.grad.clone() for name, w in trained(tuning.loaded.model).items() if w.grad is not None}


@pytest.mark.parametrize("name", PROMPTS)
def test_virtual_tokens_are_scored_as_computed_by_hand(bases: dict[str, Path], name: str) -> None:
    tuning = shaken(steps.begin(profile(bases["llama"], **{"method.name": name, "model.dtype": "float32"})))
    tuned, tokens = tuning.loaded.model, ragged([12, 30, 7])
    assert isinstance(tuned, PeftModel)
    base = AutoModelForCausalLM.from_pretrained(bases["llama"])
    (batch,) = micro_batches(tokens, range(3), Layout(3, pad_id=0))
    expected = torch.cat([by_hand(tuned, base, row_ids(tokens, row), tokens, row) for row in batch.rows])
    found = Scorer(tuned, None)(batch)
    torch.testing.assert_close(found[batch.owners.argsort(stable=True)], expected, rtol=1e-4, atol=1e-5)
    with tuned.disable_adapter():  # as the reference of preferences is asked
        off = Scorer(tuned, None)(batch)
    torch.testing.assert_close(off, Scorer(base, None)(batch), rtol=1e-4, atol=1e-5)


def row_ids(tokens: Any, row: int) -> Tensor:
    return torch.tensor(tokens.ids[tokens.starts[row] : tokens.starts[row + 1]], dtype=torch.long)


def by_hand(tuned: PeftModel, base: Any, ids: Tensor, tokens: Any, row: int) -> Tensor:
    """Scores of one row's supervised tokens, by the base with the virtual tokens put before it in embeddings or in its cache."""
    encoder = tuned.prompt_encoder["default"]
    numbers = torch.arange(5)
    embedded = base.get_input_embeddings()(ids)[None]
    if tuned.active_peft_config.peft_type == "PREFIX_TUNING":
        layers = encoder.embedding.weight.view(5, 2, 2, 2, 16)  # tokens, layers, keys and values, heads, size
        cache = DynamicCache()
        for layer in range(2):
            keys, values = (layers[:, layer, which].transpose(0, 1)[None] for which in (0, 1))
            cache.update(keys.contiguous(), values.contiguous(), layer)
        places = torch.arange(5, 5 + len(ids))[None]
        logits = base(inputs_embeds=embedded, past_key_values=cache, position_ids=places).logits[0]
    else:
        virtual = encoder(numbers)[None]
        logits = base(inputs_embeds=torch.cat([virtual, embedded], dim=1), use_cache=False).logits[0, 5:]
    counted = torch.tensor(tokens.supervised[tokens.starts[row] : tokens.starts[row + 1]])[1:]
    return functional.cross_entropy(logits[:-1][counted], ids[1:][counted], reduction="none")


@pytest.mark.parametrize("name", PROMPTS)
def test_what_a_model_with_virtual_tokens_writes_is_what_it_finds_likeliest(bases: dict[str, Path], name: str) -> None:
    tuning = shaken(steps.begin(profile(bases["llama"], **{"method.name": name, "model.dtype": "float32"})))
    tokens = ragged([20])
    prompt, written = validate.sample(tuning.loaded, tokens, 0, end_ids=(), pad_id=0)
    ids = torch.tensor([prompt + written])
    likeliest = tuning.logits(ids)[0, len(prompt) - 1 : -1].argmax(-1)
    assert likeliest.tolist() == written and len(written) == validate.SAMPLE_TOKENS


# "Prefix tuning does not work with gradient checkpointing": recomputation drops the cache that holds the prefix
def test_prefix_tuning_with_activation_checkpointing_is_refused(bases: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="recomputation drops"):
        profile(bases["llama"], **{"method.name": "prefix", "training.checkpoint_activations": True})


@pytest.mark.parametrize("name", PROMPTS)
def test_packing_with_virtual_tokens_is_refused(bases: dict[str, Path], name: str) -> None:
    with pytest.raises(ValueError, match="share its virtual tokens"):
        profile(bases["llama"], **{"method.name": name, "training.packing": True})


def test_whole_modules_beside_virtual_tokens_are_refused(bases: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="trains no modules of the base"):
        profile(bases["llama"], **{"method.name": "p_tuning", "method.modules_to_save": ("lm_head",)})


@pytest.mark.parametrize(("key", "value"), [("dora", True), ("rslora", True), ("bias", "all")])
def test_what_only_lora_knows_is_refused_with_other_methods_and_not_passed_over(
    bases: dict[str, Path], key: str, value: object
) -> None:
    with pytest.raises(ValueError, match=f"method.{key} is lora's"):
        profile(bases["llama"], **{"method.name": "ia3", f"method.{key}": value})


# bitsandbytes#1849: "fused expert weights stay in 16 bits"
def test_bitsandbytes_leaves_fused_experts_16_bit_and_that_is_said(bases: dict[str, Path]) -> None:
    wanted = profile(bases["qwen3_moe"], **{"model.quantization": "nf4"})
    stock = inventory.take(steps.begin(wanted).loaded.model, wanted)
    frozen = {row.kind: row.kept for row in stock.rows if not row.trained}
    assert (frozen["attention"], frozen["experts"]) == ("nf4", "bfloat16")
    assert any("stay in bfloat16" in note and "experts" in note for note in stock.notes)
    before_loading = compatible.notes(wanted.model, wanted.method, hub.config(str(bases["qwen3_moe"])))
    assert any("experts" in note and "stay in bfloat16" in note for note in before_loading)
    assert not compatible.notes(wanted.model, wanted.method, hub.config(str(bases["llama"])))


def test_the_inventory_counts_every_parameter_by_kind(bases: dict[str, Path]) -> None:
    wanted = profile(bases["gpt_oss"], **{"model.quantization": "int8", "method.bias": "lora_only"})
    loaded = steps.begin(wanted).loaded
    stock = inventory.take(loaded.model, wanted)
    assert stock.count(trained=True) == loaded.trainable
    assert stock.count(trained=True) + stock.count(trained=False) == loaded.total
    trains = {row.kind: row.parameters for row in stock.rows if row.trained}
    assert trains["biases"] == 2 * (64 + 32 + 32 + 64)
    assert trains["attention"] == 2 * 4 * sum(64 + out for out in (64, 32, 32, 64))
    kept = {row.kind: (row.kept, row.bits) for row in stock.rows if not row.trained and row.kind != "attention"}
    assert kept["router"] == ("bfloat16", 16) and kept["norms"] == ("bfloat16", 16)
    assert ("attention", "int8") in {(row.kind, row.kept) for row in stock.rows}
    assert stock.text().startswith("Trains ") and "experts are adapted without dropout" in stock.text()
    prompt = profile(bases["llama"], **{"method.name": "prompt_tuning"})
    stock = inventory.take(steps.begin(prompt).loaded.model, prompt)
    assert [(row.kind, row.parameters) for row in stock.rows if row.trained] == [("virtual tokens", 5 * 64)]


# peft#2321: "merged model gives other answers than the adapter": an adapter means nothing on another base
def test_an_adapter_of_another_base_is_refused(bases: dict[str, Path], tmp_path: Path) -> None:
    from tests.tiny import make_llama

    tuning = steps.begin(profile(make_llama(tmp_path / "base", layers=3)))
    result.write(tmp_path / "adapter", tuning.loaded, tuning.profile.model)
    others = {"wider": make_llama(tmp_path / "wider", hidden=128), "deeper": make_llama(tmp_path / "deeper", layers=4)}
    others["shallower"] = make_llama(tmp_path / "shallower", layers=2)
    for name, base in others.items():
        settings = tuning.profile.model.model_copy(update={"base": str(base)})
        with pytest.raises(Problem) as raised:
            model.load_result(settings, CPU, kind="adapter", path=tmp_path / "adapter")
        assert "another base" in str(raised.value), name


def test_trained_embeddings_stay_one_with_a_head_that_is_tied_to_them(bases: dict[str, Path]) -> None:
    tuning = steps.begin(profile(bases["qwen3"], **{"method.modules_to_save": ("embed_tokens",)}))
    base: Any = tuning.loaded.model.get_base_model()  # type: ignore[operator, union-attr]
    before = base.get_input_embeddings().weight.clone()
    tuning.take(1)
    assert not torch.equal(base.get_input_embeddings().weight, before)
    assert torch.equal(base.get_input_embeddings().weight, base.get_output_embeddings().weight)


@pytest.mark.parametrize(
    "settings",
    [{"method.name": "prefix"}, {"method.name": "p_tuning"}, {"model.quantization": "int8", "method.name": "ia3"}],
    ids=lambda settings: settings["method.name"],
)
def test_a_run_of_the_method_says_what_it_trains_before_its_first_step(
    bench: Bench, settings: dict[str, object]
) -> None:
    run = bench.trained(**settings, **{"method.virtual_tokens": 5, "training.learning_rate": 1e-2})
    (told,) = [event for event in events.of_run(bench.ledger, run.id) if event.kind == "inventory"]
    assert told.step == 0 and told.text.startswith("Trains ")
    kept: Any = runs.document(bench.ledger, run).environment["inventory"]
    trains = sum(row["parameters"] for row in kept["rows"] if row["trained"])
    assert trains == runs.document(bench.ledger, run).environment["parameters"]["trainable"]  # type: ignore[index]
    losses = [loss for _, loss in bench.story(run)["validation/loss"]]
    assert losses[-1] < losses[0]
    best = run.folder / "adapter" / "best"
    tuned = model.load_result(bench.profile(**settings).model, CPU, kind="adapter", path=best)
    assert torch.isfinite(steps.logits(tuned, IDS)).all()


def test_a_prompt_never_lets_the_scorer_apply_the_head_itself(bases: dict[str, Path]) -> None:
    from engine.train.scorer import take_over_head

    tuning = steps.begin(profile(bases["llama"], **{"method.name": "prompt_tuning", "model.dtype": "float32"}))
    with torch.no_grad():
        tuning.loaded.model.prompt_encoder["default"].embedding.weight.zero_()  # type: ignore[union-attr, index]
    scorer = Scorer(tuning.loaded.model, None)
    (batch,) = micro_batches(ragged([9]), [0], Layout(1, pad_id=0))
    assert not take_over_head(scorer, batch) and scorer.own_head
    assert adapter.virtual_tokens(tuning.loaded.model) == 5
