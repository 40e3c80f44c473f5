"""What a run trains and what it leaves as it is, by the kind of module, in counts of parameters: looked up on the loaded model, before it starts."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Final

from torch import nn

from engine import compatible
from engine.profile import Profile
from engine.train.anatomy import KINDS, LINEAR, Kind, kind_of, size_of

BITS: Final = {"nf4": 4, "fp4": 4, "int8": 8, "bfloat16": 16, "float16": 16, "float32": 32}
MILLION: Final = 1e6


@dataclass(frozen=True)
class Row:
    """Parameters of one kind that are treated alike. `kept` is how: nf4, fp4, int8 or the name of a type; 4-bit ones count as what they stand for."""

    kind: Kind
    trained: bool
    kept: str
    parameters: int

    @property
    def bits(self) -> int:
        """Of one parameter, without the scales of quantised ones."""
        return BITS[self.kept]


@dataclass(frozen=True)
class Inventory:
    """All of a model's parameters, and what a person should know of them."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    def count(self, *, trained: bool) -> int:
        """Parameters that are trained, or frozen."""
        return sum(row.parameters for row in self.rows if row.trained is trained)

    def text(self) -> str:
        """In one line: `Trains 0.4 M parameters: attention 0.2 M, ...; frozen: ...`, and the notes."""
        trained, frozen = (
            ", ".join(
                f"{row.kind} {_million(row.parameters)} ({row.kept})" for row in self.rows if row.trained is wanted
            )
            for wanted in (True, False)
        )
        said = f"Trains {_million(self.count(trained=True))} parameters: {trained}"
        said += f"; frozen are {_million(self.count(trained=False))}: {frozen}" if frozen else ""
        return ". ".join([said, *(note[0].upper() + note[1:] for note in self.notes)])

    def detail(self) -> dict[str, object]:
        """The same to be kept."""
        return {"rows": [asdict(row) for row in self.rows], "notes": list(self.notes)}


def take(model: nn.Module, profile: Profile) -> Inventory:
    """Look at every parameter of the model that the profile's run is to train."""
    found: Counter[tuple[Kind, bool, str]] = Counter()
    for name, parameter in model.named_parameters():
        found[kind_of(name), parameter.requires_grad, _kept(parameter)] += size_of(parameter)
    rows = sorted(
        (Row(kind, trained, kept, count) for (kind, trained, kept), count in found.items()),
        key=lambda row: (not row.trained, KINDS.index(row.kind), row.kept),
    )
    return Inventory(tuple(rows), tuple(_notes(model, rows, profile)))


def _kept(parameter: nn.Parameter) -> str:
    state = getattr(parameter, "quant_state", None)
    if state is not None:
        return str(state.quant_type)
    return str(parameter.dtype).removeprefix("torch.")


def _missed(model: nn.Module) -> list[str]:
    """Last names of linear modules but the head that stand without an adapter."""
    own = ("base_layer", "modules_to_save", "original_module")
    found = set()
    for name, module in model.named_modules():
        parts = name.split(".")
        if isinstance(module, LINEAR) and not any(part.startswith("lora_") or part in own for part in parts):
            found.add(parts[-1])
    return sorted(name for name in found if kind_of(name) != "head")


def _notes(model: nn.Module, rows: list[Row], profile: Profile) -> list[str]:
    """What stays out of what the profile asks for."""
    notes = []
    method, quantization = profile.method, profile.model.quantization
    experts = [row for row in rows if row.kind == "experts"]
    if experts and not any(row.trained for row in experts):
        frozen = "the experts stay as they are: nothing of them is trained"
        notes.append(compatible.NOT_SCALED if method.name == "ia3" else frozen)
    large = sum(row.parameters for row in experts if not row.trained and row.bits >= 16)
    if quantization != "none" and large:
        total = sum(row.parameters for row in rows if not row.trained)
        notes.append(
            f"{large / total:.0%} of the frozen weights, the experts, stay in {profile.model.dtype}: bitsandbytes quantises linear modules "
            "only"
        )
    if method.name == "lora" and method.dropout and any(row.trained for row in experts):
        notes.append(compatible.NO_DROPOUT)
    if method.name == "lora" and method.targets == "all-linear" and (missed := _missed(model)):
        notes.append(f"PEFT adapts no {', '.join(missed)} in this architecture: they stay frozen")
    if (
        method.name == "lora"
        and method.bias != "none"
        and not any(row.trained and row.kind == "biases" for row in rows)
    ):
        notes.append(f"method.bias = {method.bias} has nothing to train: there are no such biases in this model")
    return notes


def _million(count: int) -> str:
    return f"{count / MILLION:,.1f} M" if count >= MILLION / 10 else f"{count:,}"
