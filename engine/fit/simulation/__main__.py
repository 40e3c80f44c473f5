"""`python -m engine.fit.simulation`: what `engine.fit.simulator` starts. Speaks `engine.fit.lines`."""

from __future__ import annotations

from engine.fit.simulation.serving import Answering, serve


def prepare() -> Answering:
    """Import all that every simulation needs."""
    import torch

    from engine.fit.simulation.answer import answer

    torch.set_num_threads(1)
    return answer


if __name__ == "__main__":
    serve(prepare)
