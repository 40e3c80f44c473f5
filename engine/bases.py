"""Models that a run can begin from: those in the hub's cache, folders nearby, results of runs, and those that are known and not here yet.

Only files are looked at: names, sizes, config.json, and the first bytes of weights, which say how many numbers they hold.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from engine.errors import Problem
from engine.fit.shapes import context_of, shipped_models
from engine.hub import is_cached
from engine.ledger import Ledger, runs

Where = Literal["cached", "partly", "folder", "run", "hub"]
HERE: Final[tuple[Where, ...]] = ("cached", "folder", "run")
RECENT: Final = 100  # runs whose results are offered
HEADER: Final = 64 << 20  # bytes of a safetensors header; real ones have a few hundred thousand
RECURRENT: Final = ("mamba", "rwkv", "recurrent", "linear_attention", "conv")
"""Words in the types of layers that keep a state in place of keys and values."""
EXPERTS: Final = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")


@dataclass(frozen=True)
class Base:
    """`name` is what `model.base` is set to. None is not known; `bytes` are those of its weights on the disk.

    `config` is its config.json. `kind` is dense, experts, hybrid (layers with a state among those with attention) or both; `quantized` is how its weights come packed.
    """

    name: str
    where: Where
    family: str = ""
    kind: str = ""
    parameters: int | None = None
    bytes: int | None = None
    context: int | None = None
    chat: bool | None = None
    gated: bool = False
    quantized: str = ""
    about: str = ""
    config: Mapping[str, object] = field(default_factory=dict, repr=False)

    @property
    def here(self) -> bool:
        """Nothing has to be downloaded."""
        return self.where in HERE


def bases(ledger: Ledger | None, folder: Path) -> tuple[Base, ...]:
    """All of them: in the cache, below `folder`, results of the newest runs, known ones."""
    held = [*_cached(), *_folders(folder), *(_results(ledger) if ledger else ())]
    names = {base.name for base in held}
    return (*held, *(base for base in _known() if base.name not in names))


def kind_of(config: Mapping[str, object]) -> str:
    """Dense, or what makes a model otherwise, read from its config.json."""
    inner = config.get("text_config")
    text = {**config, **inner} if isinstance(inner, dict) else config
    words = [str(text.get("model_type", "")), *_texts(text.get("layer_types")), *_texts(text.get("layers_block_type"))]
    many = any(isinstance(count := text.get(key), int) and count > 1 for key in EXPERTS)
    kinds = ["experts"] if many else []
    if any(word in each for each in words for word in RECURRENT):
        kinds.append("hybrid")
    return " + ".join(kinds) or "dense"


def _texts(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []


def _cached() -> Iterator[Base]:
    """Models in the hub's cache."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    gated = {name for model in shipped_models() for name in model.ids if model.gated}
    try:
        repos = scan_cache_dir().repos
    except (CacheNotFound, OSError):
        return
    for repo in sorted((each for each in repos if each.repo_type == "model"), key=lambda each: each.repo_id.lower()):
        newest = max(repo.revisions, key=lambda each: ("main" in each.refs, each.last_modified), default=None)
        if newest is None:
            continue
        base = _of_folder(newest.snapshot_path, repo.repo_id, "cached", gated=repo.repo_id in gated)
        if base is None:
            continue
        try:
            whole = is_cached(repo.repo_id, newest.commit_hash)
        except (Problem, OSError, ValueError, LookupError):
            whole = False
        yield base if whole else replace(base, where="partly", parameters=None)


def _folders(folder: Path) -> Iterator[Base]:
    """Folders of models in the working folder, and one level deeper."""
    try:
        found = sorted(
            {
                path.parent
                for depth in ("config.json", "*/config.json", "*/*/config.json")
                for path in folder.glob(depth)
            }
        )
    except OSError:
        return
    for place in found:
        base = _of_folder(place, str(place), "folder")
        if base is not None and base.bytes:
            yield base


def _results(ledger: Ledger) -> Iterator[Base]:
    """Runs that left something to go on from."""
    for run in runs.listed(ledger, limit=RECENT):
        if run.result is not None and not run.source and run.result.is_dir():
            whole = run.result_kind == "model"
            known = _of_folder(run.result, f"run:{run.name}", "run") if whole else None
            yield known or Base(f"run:{run.name}", "run", about=f"{'a model' if whole else 'an adapter'}, {run.state}")


def _known() -> Iterator[Base]:
    """Models whose config.json ships: all that is missing is the download."""
    for model in shipped_models():
        for name in model.ids:
            packed = _packing(model.config)
            yield Base(
                name,
                "hub",
                str(model.config.get("model_type", "")),
                kind_of(model.config),
                model.parameters,
                None,
                context_of(model.config),
                gated=model.gated,
                quantized=packed,
                config=model.config,
            )


def _of_folder(folder: Path, name: str, where: Where, *, gated: bool = False) -> Base | None:
    """The model in a folder; None where there is none, or an adapter."""
    config = _json(folder / "config.json")
    if config is None or "model_type" not in config:
        return None
    weights = sorted(folder.glob("*.safetensors"))
    packed = _packing(config)
    return Base(
        name,
        where,
        family=str(config["model_type"]),
        kind=kind_of(config),
        parameters=None if packed else _counted(weights),
        bytes=sum(_size(file) for file in weights) or None,
        context=context_of(config),
        chat=_has_template(folder),
        gated=gated,
        quantized=packed,
        config=config,
    )


def _packing(config: Mapping[str, object]) -> str:
    """How weights come quantised: gptq, awq, mxfp4, bitsandbytes; empty where they do not."""
    packed = config.get("quantization_config")
    return str(packed.get("quant_method", "packed")) if isinstance(packed, dict) else ""


def _has_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    return bool((_json(folder / "tokenizer_config.json") or {}).get("chat_template"))


def _counted(weights: Iterable[Path]) -> int | None:
    """Numbers in safetensors files, from their headers; None where one cannot be read."""
    total = 0
    for file in weights:
        try:
            with file.open("rb") as opened:
                length = int.from_bytes(opened.read(8), "little")
                if length > HEADER:
                    return None
                header = json.loads(opened.read(length))
            total += sum(math.prod(each["shape"]) for name, each in header.items() if name != "__metadata__")
        except (OSError, ValueError, TypeError, LookupError, AttributeError):
            return None
    return total or None


def _json(path: Path) -> dict[str, object] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
