"""LLaMA-Factory names its data sets; `dataset_info.json` in `dataset_dir` says what they are. (Its form: data/README.md of LLaMA-Factory.)"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from engine.importing.carrying import Carry, names
from engine.importing.sources import columns, place

ALPACA: Final = {"prompt": "instruction", "query": "input", "response": "output"}
PARTS: Final = {
    "prompt": "instruction",
    "query": "input",
    "response": "response",
    "system": "system",
    "messages": "messages",
    "tools": "tools",
    "chosen": "chosen",
    "rejected": "rejected",
}
"""What its names of columns are here."""
LARGEST: Final = 1 << 22  # bytes of a dataset_info.json; the one that ships has 20,000
LOST: Final = {
    "history": "earlier turns in a column of their own are not read: write them as messages",
    "kto_tag": "there is no kto",
    "images": "only text is read",
    "videos": "only text is read",
    "audios": "only text is read",
}


def data_sets(carry: Carry) -> None:
    """Carry all data sets that can be found out about."""
    known, where = _information(carry)
    carry.needless("dataset_dir", "files are named in full")
    carry.needless("media_dir", "only text is read")
    listed = names(carry.get("dataset", ""))
    lost = []
    for number, name in enumerate(listed):
        described = known.get(name)
        if isinstance(described, Mapping):
            _data_set(carry, {str(key): value for key, value in described.items()}, name, number, where)
        else:
            carry.values[f"data.{number}.source"] = name
            lost.append(name)
    if lost:
        why = (
            f"{where / 'dataset_info.json'} does not describe {', '.join(lost)}: set data.source to its file or hub id"
        )
        carry.left("dataset", why)
    elif listed:
        carry.same("dataset", "data.0.source", carry.values["data.0.source"])


def _information(carry: Carry) -> tuple[Mapping[str, object], Path]:
    """What is said of data sets, and the folder of their files: `dataset_dir`, which is relative to where LLaMA-Factory is started."""
    named = Path(str(carry.get("dataset_dir", "data"))).expanduser()
    candidates = [base / named for base in (carry.folder, *list(carry.folder.parents)[:3], Path.cwd())]
    for folder in candidates:
        file = folder / "dataset_info.json"
        try:
            if file.stat().st_size <= LARGEST:
                found = json.loads(file.read_text(encoding="utf-8"))
                if isinstance(found, dict):
                    return found, folder
        except (OSError, ValueError, RecursionError):
            continue
    return {}, candidates[0]


def _data_set(carry: Carry, described: dict[str, object], name: str, number: int, folder: Path) -> None:
    inner = carry.inside(described, f"dataset.{name}")
    to = f"data.{number}"
    key = "hf_hub_url" if inner.has("hf_hub_url") else "file_name"
    found = str(inner.get(key, name))
    inner.same(key, f"{to}.source", place(found, folder) if key == "file_name" else found)
    for other in ("file_name", "ms_hub_url", "om_hub_url"):
        inner.needless(other, "hf_hub_url says it")
    inner.same("subset", f"{to}.subset")
    inner.same("split", f"{to}.split")
    sharegpt = inner.get("formatting", "alpaca") in ("sharegpt", "openai")
    named = inner.get("columns")
    given = {str(part): column for part, column in named.items()} if isinstance(named, Mapping) else {}
    if carry.values.get("training.objective") == "pretrain":
        columns(carry, to, {"text": str(given.get("prompt", "text"))})
    else:
        usual = {"messages": "conversations"} if sharegpt else {} if given else ALPACA
        every = {**usual, **{part: str(column) for part, column in given.items()}}
        columns(carry, to, {PARTS[part]: column for part, column in every.items() if part in PARTS})
    lost = [f"{part} ({LOST[part]})" for part in given if part in LOST]
    if lost:
        inner.changed("columns", {f"{to}.columns": carry.values.get(f"{to}.columns", {})}, f"without {', '.join(lost)}")
    inner.same("columns", f"{to}.columns", carry.values.get(f"{to}.columns"))
    inner.rest(
        {
            "formatting": "the columns say it",
            "ranking": "training.objective says it",
            "tags": "roles of ShareGPT and OpenAI are read as they are",
        },
        {
            "num_samples": "a data set is taken whole",
            "folder": "a hub data set is taken whole",
            "script_url": "data sets never run code here",
        },
    )
