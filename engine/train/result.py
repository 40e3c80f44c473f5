"""What a run leaves behind: an adapter in PEFT's layout, or a whole model in transformers' layout with its tokenizer."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Final, Literal

from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from engine import folders, profile
from engine.train.model import Loaded
from engine.train.pretrained import fetch
from engine.train.quantized import DTYPES
from engine.train.ranks import ALONE, Ranks
from engine.train.sharded import whole

TOKENIZER_FILES: Final = ("tokenizer*", "special_tokens_map.json", "vocab*", "merges.txt", "*.jinja", "*.model")


def kind(method: profile.Method) -> Literal["adapter", "model"]:
    """What the method leaves: an `adapter`, or for method full a `model`; also the name of the folder it goes into."""
    return "model" if method.name == "full" else "adapter"


def write(folder: Path, loaded: Loaded, settings: profile.Model, ranks: Ranks = ALONE) -> None:
    """Put the model's present weights at `folder` as a result, whole or not at all. All `ranks` have to call it; the first writes."""
    model = loaded.model
    weights = collected(model, settings, ranks)
    if not ranks.writes:
        return
    if isinstance(model, PeftModel):
        folders.publish(folder, lambda place: _write_adapter(place, model, weights))
    else:
        folders.publish(folder, lambda place: _write_model(place, model, settings, weights))


def collected(model: PreTrainedModel | PeftModel, settings: profile.Model, ranks: Ranks = ALONE) -> dict[str, Tensor]:
    """The weights that a result holds by name, in main memory and in the type that they are written in; none for ranks that write nothing."""
    # Embeddings that are trained are there as modules that are trained whole; PEFT would ask the hub whether others changed.
    adapted = isinstance(model, PeftModel)
    named = get_peft_model_state_dict(model, save_embedding_layers=False) if adapted else model.state_dict()
    dtype = None if adapted else DTYPES[settings.dtype]  # float32 while it trains; the result is in the profile's type
    weights = {}
    for name, weight in named.items():
        full = whole(weight.detach())
        if ranks.writes:
            kind_of_numbers = dtype if weight.is_floating_point() else None
            # Copies: PEFT wants a tied head under its own name too when it loads, and safetensors refuses shared memory.
            weights[name] = full.to("cpu", kind_of_numbers, copy=adapted).contiguous()
    return weights


def _write_adapter(folder: Path, model: PeftModel, weights: dict[str, Tensor]) -> None:
    save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})
    config = copy.copy(model.peft_config["default"])
    config.inference_mode = True
    for name, value in vars(config).items():
        if isinstance(value, set):
            setattr(config, name, sorted(value))  # a set has another order in every process
    config.save_pretrained(str(folder))


def _write_model(folder: Path, model: PreTrainedModel, settings: profile.Model, weights: dict[str, Tensor]) -> None:
    model.save_pretrained(folder, state_dict=weights)
    config = json.loads((folder / "config.json").read_text())  # names the type of the weights in memory
    (folder / "config.json").write_text(json.dumps({**config, "dtype": settings.dtype}, indent=2) + "\n")
    source = fetch(settings)
    for pattern in TOKENIZER_FILES:
        for path in source.glob(pattern):
            shutil.copyfile(path, folder / path.name)
