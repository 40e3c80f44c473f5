"""The formula for what a forward pass keeps, against what autograd keeps when the engine's own step runs a real model."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.fit import asking, memory, setup, shapes
from engine.fit.facts import Facts
from engine.fit.question import Machine
from tests.tiny import make_llama, tiny_profile, write_rows

ROWS, TOKENS, KEPT, HEADS, VOCABULARY = 4, 256, 100, 4, 512


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model wide enough for its activations to outweigh masks and positions."""
    return make_llama(tmp_path_factory.mktemp("wide") / "base", layers=4, hidden=256)


@pytest.mark.parametrize(
    "settings",
    [
        {"model.dtype": "float32"},
        {"model.dtype": "bfloat16"},
        {"model.dtype": "float32", "method.targets": ("q_proj", "v_proj")},
        {"model.dtype": "bfloat16", "method.name": "full"},
        {"model.dtype": "float32", "model.attention": "eager"},
    ],
    ids=lambda settings: " ".join(str(value) for value in settings.values()),
)
def test_what_autograd_keeps(wide: Path, tmp_path: Path, settings: dict[str, object]) -> None:
    import torch

    from engine.train import model
    from engine.train.batches import MicroBatch
    from engine.train.scorer import Scorer

    # Dropout is left out: on a CPU its mask is kept in another form than on a GPU.
    profile = tiny_profile(
        wide,
        write_rows(tmp_path / "rows.jsonl", 4),
        **{"method.dropout": 0.0, "template.max_tokens": TOKENS, **settings},
    )
    loaded = model.load(profile, torch.device("cpu"), vocabulary=VOCABULARY)
    ids = torch.randint(5, VOCABULARY, (ROWS, TOKENS))
    mask = torch.ones_like(ids)
    mask[1:, -10:] = 0
    columns = torch.arange(TOKENS - KEPT, TOKENS)
    kept = torch.arange(ROWS * KEPT)
    batch = MicroBatch(
        ids=ids,
        mask=mask,
        positions=None,
        bounds=None,
        lengths=(),
        places=kept // KEPT * TOKENS + columns[kept % KEPT],
        columns=columns,
        kept=kept,
        targets=ids[:, columns].flatten(),
        owners=kept // KEPT,
        rows=tuple(range(ROWS)),
    )
    weights = {part.untyped_storage().data_ptr() for part in (*loaded.model.parameters(), *loaded.model.buffers())}
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in weights:
            saved[place] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        Scorer(loaded.model, loaded.autocast)(batch)
    # 16-bit copies that autocast makes of the weights are counted apart.
    shown = {(1,), (ROWS,), (ROWS * TOKENS,), (ROWS * HEADS,)}
    measured = sum(one.untyped_storage().nbytes() for one in saved.values() if one.shape[:1] in shown)
    facts = Facts(shapes.config_of(str(wide)), 4, 0, 0, TOKENS, float(TOKENS), KEPT)
    step = setup.of_question(asking.question(profile, facts, rows=ROWS, checkpointing=False, machine=Machine(None)))
    assert measured == pytest.approx(step.shape.layers * memory.block_bytes(step), rel=0.08)
