"""Random weights for a folder that holds a config.json: how a base model begins that is trained from nothing.

Usage: python -m engine.train.initialise FOLDER SEED
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel


def initialise(folder: Path, seed: int) -> int:
    """Write float32 weights, drawn as the architecture prescribes, beside `folder`/config.json; returns their number."""
    torch.manual_seed(seed)
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
        config, dtype=torch.float32
    )
    model.save_pretrained(folder)
    return model.num_parameters()


def main(arguments: list[str]) -> int:
    """The command line; exit 2 when it is used wrongly."""
    if len(arguments) != 2 or not arguments[1].isdigit() or not (Path(arguments[0]) / "config.json").is_file():
        print("Usage: python -m engine.train.initialise FOLDER SEED; FOLDER holds a config.json", file=sys.stderr)
        return 2
    initialise(Path(arguments[0]), int(arguments[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
