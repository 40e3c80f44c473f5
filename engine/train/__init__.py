"""The training loop and what it needs. Imports torch: only job processes may import from here.

`job` is the story of a run: `model` and `optimizer` make its parts, `loop` goes through the steps (`batches`, `step`,
`schedule`), obeys orders (`control`) and validates; `keep` writes checkpoints (`checkpoint`) and the `result`, `tell` and
`watch` say how it goes.
"""
