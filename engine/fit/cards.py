"""What a GPU can do: the cards that ship as figures, and the live ones with those figures beside them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

from engine.errors import Problem, nearest
from engine.gpu import Gpu
from engine.places import shipped

MIB: Final = 1 << 20
GB: Final = 1 << 30  # as names of slices count them
# As drivers name them, "A100-SXM4-40GB MIG 3g.20gb": https://docs.nvidia.com/datacenter/tesla/mig-user-guide/
SLICE: Final = re.compile(r"(?P<whole>.+) MIG (?P<slice>(?:\d+c\.)?(?P<parts>\d+)g\.(?P<gb>\d+)gb.*)")
PCIE_GB_S: Final = 25.0  # of the 31.5 that PCI Express 4.0 x16 has on paper
DRIVER_KEEPS_MIB: Final = 500.0  # what a driver holds of an idle card; 300 to 600 MiB on cards of 12 to 80 GB


@dataclass(frozen=True)
class CardSpec:
    """Published figures of one kind of GPU: memory in MiB, bandwidth in GB/s, dense matrix rates in TFLOP/s, power in W.

    `capability` is CUDA's version of what it can do. `fp32_tflops` is TF32 where the card has it. A rate of None: the card does not have that
    type. `link_gb_s` goes each way between two such cards. `context_mib` is what CUDA itself holds of a process, where it was measured.
    """

    name: str
    driver_names: tuple[str, ...]
    memory_mib: float
    bandwidth_gb_s: float
    bf16_tflops: float | None
    fp16_tflops: float
    fp32_tflops: float
    watts: float
    source: str
    capability: tuple[int, int]
    link_gb_s: float = PCIE_GB_S
    context_mib: float | None = None

    def tflops(self, dtype: str) -> float:
        """The matrix rate for a profile's dtype; a card without bfloat16 computes it at float32's rate."""
        if dtype == "bfloat16":
            return self.bf16_tflops or self.fp32_tflops
        return self.fp16_tflops if dtype == "float16" else self.fp32_tflops


@dataclass(frozen=True)
class Card:
    """A GPU to fit a run to: a live one, or an empty one of a kind that ships (`uuid` is then empty; a CPU's is "cpu"). Memory in MiB.

    What this machine taught of it, where it did: `context_mib` is what CUDA itself holds of a process, `efficiency` the share of the published
    matrix rate that runs reached, `watts` the power that they took (each from, to).
    """

    name: str
    uuid: str
    total_mib: float
    free_mib: float
    spec: CardSpec | None
    capability: tuple[int, int] | None = None
    context_mib: float | None = None
    efficiency: tuple[float, float] | None = None
    watts: tuple[float, float] | None = None


@cache
def specs() -> tuple[CardSpec, ...]:
    """The cards in profiles/gpus, smallest memory first."""
    found = map(_read, (shipped() / "gpus").glob("*.toml"))
    return tuple(sorted(found, key=lambda spec: (spec.memory_mib, spec.name)))


def _read(path: Path) -> CardSpec:
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    return CardSpec(
        **{
            "bf16_tflops": None,
            **values,
            "driver_names": tuple(values["driver_names"]),
            "capability": tuple(values["capability"]),
        }
    )


def of_gpu(gpu: Gpu) -> Card | None:
    """A live GPU as a card; None when the driver does not say how much memory it has."""
    if gpu.total_mib is None or gpu.free_mib is None:
        return None
    spec = spec_of(gpu.name)
    capability = gpu.capability or (spec.capability if spec else None)
    return Card(gpu.name, gpu.uuid, gpu.total_mib, gpu.free_mib, spec, capability)


def spec_of(name: str) -> CardSpec | None:
    """What ships of the card that the driver gives this name, with or without "NVIDIA "; of a slice of one (MIG) its share."""
    plain = name.removeprefix("NVIDIA ")
    if slice_ := SLICE.fullmatch(plain):
        whole = spec_of(slice_["whole"])
        return _share(whole, plain, int(slice_["parts"]), float(slice_["gb"])) if whole else None
    return next((spec for spec in specs() if plain in (spec.name, *spec.driver_names)), None)


def _share(whole: CardSpec, name: str, parts: int, gb: float) -> CardSpec:
    """A slice: of the matrix rate as many parts as it has of all, of the bandwidth as much as of the memory."""
    compute, memory = parts / _parts(whole), gb * GB / (whole.memory_mib * MIB)
    return replace(
        whole,
        name=name,
        memory_mib=whole.memory_mib * memory,
        bandwidth_gb_s=whole.bandwidth_gb_s * memory,
        bf16_tflops=whole.bf16_tflops and whole.bf16_tflops * compute,
        fp16_tflops=whole.fp16_tflops * compute,
        fp32_tflops=whole.fp32_tflops * compute,
        watts=whole.watts * compute,
    )


def _parts(whole: CardSpec) -> int:
    """Into how many parts a card's multiprocessors may be divided."""
    return 4 if whole.name == "A30" else 7


def _empty(spec: CardSpec) -> Card:
    return Card(spec.name, "", spec.memory_mib, spec.memory_mib - DRIVER_KEEPS_MIB, spec, capability=spec.capability)


def named(name: str) -> Card:
    """An empty card of the kind with this name ("RTX 4090", "rtx-4090", "4090"), or a slice of one ("A100 40GB MIG 3g.20gb").

    Raises:
        Problem: none that ships has this name.
    """
    if slice_ := SLICE.fullmatch(name.strip()):
        whole = named(slice_["whole"]).spec
        if (
            whole
            and 0 < int(slice_["parts"]) <= _parts(whole)
            and 0 < float(slice_["gb"]) * GB <= whole.memory_mib * MIB
        ):
            return _empty(
                _share(whole, f"{whole.name} MIG {slice_['slice']}", int(slice_["parts"]), float(slice_["gb"]))
            )
        raise Problem(
            f"No {slice_['whole']} has a slice {slice_['slice']}",
            "A slice is a part of a whole card.",
            "As nvidia-smi mig -lgip lists them, such as A100 40GB MIG 3g.20gb",
            code="gpu",
        )
    wanted = _plain(name)
    for spec in specs():
        if wanted in map(_plain, (spec.name, *spec.driver_names)):
            return _empty(spec)
    known = {_plain(spec.name): spec.name for spec in specs()}
    beginning = [shown for plain, shown in known.items() if plain.startswith(wanted)] if wanted else []
    near = beginning or [known[plain] for plain in [nearest(wanted, known)] if plain]
    meant = f" - did you mean {' or '.join(near)}?" if near else ""
    raise Problem(
        f"There is no GPU {name.strip() or 'without a name'} among those that ship{meant}",
        "Its memory and speed are not known.",
        f"Known: {', '.join(sorted(known.values()))}",
        code="gpu",
    )


def _plain(name: str) -> str:
    """Letters and digits, without who makes it and the name of the series: `4090` for `NVIDIA GeForce RTX 4090`."""
    letters = "".join(letter for letter in name.lower() if letter.isalnum())
    for series in ("nvidia", "geforce", "tesla", "rtx"):
        letters = letters.removeprefix(series)
    return letters


def lacking(card: Card, dtype: str) -> str:
    """What is to be said of a card that does not have a profile's dtype; empty where it has, or is not known."""
    if dtype != "bfloat16" or card.capability is None or card.capability >= (8, 0):
        return ""
    return f"{card.name} has no bfloat16 and is slow with it: model.dtype = float16 is what it has"


def live(gpus: Sequence[Gpu]) -> tuple[Card, ...]:
    """The live GPUs whose memory is known."""
    return tuple(card for card in map(of_gpu, gpus) if card)
