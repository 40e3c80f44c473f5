"""Floor 1: everything that runs without a terminal.

A `profile` is resolved (`resolve`), which looks at its `data` and asks `fit` whether it fits; `launch` makes a run and a job
of it in the `ledger` and starts the job's process (`jobs`, `__main__`), which waits for its turn (`turns`), then trains
(`train`) or evaluates (`evaluate`). Only `train` and the asking half of `evaluate` import torch.
"""

__version__ = "0.1.0"
