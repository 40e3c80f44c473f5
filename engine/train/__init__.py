"""The training loop and what it needs. Imports torch: only job processes may import from here.

`job` is the story of a run. It makes the run's `parts`: the `model` (`pretrained` with an `adapter`, `quantized` or not), the `scorer` that runs
it, how rows are laid out (`packing`, tried by `leaks`), the `objective` and the `optimizer`. `begin` finds where the run goes on; `loop` goes
through the steps (`batches`, `attempt`, `step`, `schedule`), obeys orders (`control`) and validates. Where memory runs out, `backoff` does the
same in smaller pieces. `keep` writes checkpoints (`checkpoint`) and the `result`; `identity` says whether a run may go on from one. `ranks` and
`sharded` are for several GPUs. `tell` and `watch` say how it goes.
"""
