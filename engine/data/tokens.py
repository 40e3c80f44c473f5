"""Examples as arrays: what training reads, kept as safetensors."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from engine.data.rendered import Rendered


@dataclass(frozen=True)
class Tokens:
    """Rows one after the other: row i is `ids[starts[i]:starts[i + 1]]`.

    An example is `per_example` rows: one, or for preferences two, the chosen response's and after it the rejected one's.
    """

    ids: NDArray[np.int32]  # [tokens]
    supervised: NDArray[np.bool_]  # [tokens]: the loss counts it
    starts: NDArray[np.int64]  # [rows + 1]
    row_ids: tuple[str, ...]
    per_example: int = 1

    def __len__(self) -> int:
        """Rows."""
        return len(self.row_ids)

    @property
    def examples(self) -> int:
        """Examples: what an effective batch is counted in."""
        return len(self.row_ids) // self.per_example


class TokensInTheMaking:
    """Takes samples one at a time; holds 5 bytes a token."""

    def __init__(self, per_example: int) -> None:
        self._per_example = per_example
        self._ids = array("i")
        self._supervised = bytearray()
        self._ends = array("q", [0])
        self._names: list[str] = []

    def add(self, samples: Iterable[Rendered], name: str) -> None:
        """The samples of one example, in order."""
        for rendered in samples:
            self._ids.extend(rendered.ids)
            self._supervised.extend(rendered.supervised)
            self._ends.append(len(self._ids))
            self._names.append(name)

    def done(self) -> Tokens:
        """What was added, without a copy; nothing more can be added."""
        return Tokens(
            np.frombuffer(self._ids, np.int32),
            np.frombuffer(self._supervised, np.bool_),
            np.frombuffer(self._ends, np.int64),
            tuple(self._names),
            self._per_example,
        )


def dump_tokens(tokens: Tokens) -> bytes:
    """The arrays as safetensors."""
    return save_arrays({"ids": tokens.ids, "supervised": tokens.supervised, "starts": tokens.starts})


def load_tokens(path: Path, row_ids: Sequence[str], per_example: int) -> Tokens:
    """What `dump_tokens` made, read back.

    Raises:
        OSError, SafetensorError, KeyError: it is not there or damaged.
    """
    arrays = load_arrays(path.read_bytes())
    return Tokens(arrays["ids"], arrays["supervised"], arrays["starts"], tuple(row_ids), per_example)
