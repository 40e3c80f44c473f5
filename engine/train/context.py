"""What CUDA holds of a GPU for a process that trains, besides what torch's allocator reserves: `python -P -m engine.train.context`.

It trains a few small steps on the first visible GPU in each type, so that the kernels and cuBLAS handles that a run loads are loaded here
too, and prints JSON: `mib`, and `workspace_mib`, which cuBLAS keeps inside of torch's memory. Or `problem`, a sentence.
"""

from __future__ import annotations

import gc
import json
import time
from typing import Final

import torch
from torch import nn
from torch.nn import functional

from engine.gpu import MIB, Gpu, first

DEVICE: Final = torch.device("cuda")
SIZE: Final = 512
WORDS: Final = 2048
ROWS: Final = (2, 128)
STEADY: Final = 0.3  # seconds for which nobody else may have changed what is used
NOISE: Final = 1.0  # MiB
SENSIBLE: Final = (16.0, 8192.0)  # MiB of a context: outside of it somebody else's memory was taken for ours


def main() -> None:
    """Measure and print."""
    before, quiet = _looked()
    if before is None:
        print(json.dumps({"problem": "The driver does not say how much of the GPU is used."}))
        return
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        if dtype is not torch.bfloat16 or torch.cuda.is_bf16_supported(including_emulation=False):
            _train(dtype)
    gc.collect()
    torch.cuda.synchronize()
    workspace = torch.cuda.memory_allocated() / MIB
    after, quiet_too = _looked()
    assert after is not None
    mib, problem = outside(before, after, torch.cuda.memory_reserved() / MIB, steady=quiet and quiet_too)
    print(json.dumps({"problem": problem} if problem else {"mib": mib, "workspace_mib": workspace}))


def _train(dtype: torch.dtype) -> None:
    """Steps of a small model: embedding, norms, products, attention, loss, clipping and update, on torch's forward and backward threads."""
    where: dict[str, torch.dtype | torch.device] = {"device": DEVICE, "dtype": dtype}
    block = nn.TransformerEncoderLayer(SIZE, 8, SIZE, batch_first=True, **where)  # type: ignore[arg-type]
    model = nn.Sequential(nn.Embedding(WORDS, SIZE, **where), block, nn.Linear(SIZE, WORDS, **where))  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    ids = torch.randint(WORDS, ROWS, device=DEVICE)
    for _ in range(2):
        loss = functional.cross_entropy(model(ids).flatten(0, 1).float(), ids.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def _looked() -> tuple[Gpu | None, bool]:
    """The GPU now, and whether what is used of it has stood still for a moment."""
    one = first()
    time.sleep(STEADY)
    other = first()
    if one is None or other is None or one.used_mib is None or other.used_mib is None:
        return None, False
    return other, abs(other.used_mib - one.used_mib) <= NOISE


def outside(before: Gpu, after: Gpu, reserved_mib: float, *, steady: bool) -> tuple[float, str]:
    """What this process holds besides `reserved_mib`, and why that is not known (else empty).

    Its own memory where the driver knows it by its pid. In a container the driver often does not; then what is used of the whole GPU has
    grown by it, if nobody else's use changed.
    """
    own = after.own_mib
    if not own:
        if not steady:
            return 0.0, "Others use the GPU, and the driver does not tell whose memory is whose."
        own = (after.used_mib or 0.0) - (before.used_mib or 0.0)
    mib = own - reserved_mib
    least, most = SENSIBLE
    if not least <= mib <= most:
        return 0.0, f"The driver's figures make no sense: {own:,.0f} MiB held, {reserved_mib:,.0f} of it by torch."
    return mib, ""


if __name__ == "__main__":
    main()
